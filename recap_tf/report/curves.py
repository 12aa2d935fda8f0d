"""The points of a task's curves: ROC, precision and recall, reliability, histogram."""

import dataclasses

import numpy as np

_POINTS = 250


@dataclasses.dataclass(frozen=True)
class TaskScores:
    """Labels, weights and predicted probabilities of one task, (examples,) each.

    Examples without weight, or whose prediction is no number, are left out.
    """

    labels: np.ndarray
    weights: np.ndarray
    predictions: np.ndarray

    def __post_init__(self):
        there = (self.weights > 0) & np.isfinite(self.predictions)
        for name, dtype in (
            ("labels", bool),
            ("weights", np.float64),
            ("predictions", np.float64),
        ):
            values = np.asarray(getattr(self, name))[there].astype(dtype)
            object.__setattr__(self, name, values)

    @property
    def has_both_classes(self) -> bool:
        return bool(self.labels.any()) and not self.labels.all()

    @property
    def rate(self) -> float:
        """The weighted share of positives; NaN without examples."""
        if not len(self.labels):
            return float("nan")
        return float(np.average(self.labels, weights=self.weights))


@dataclasses.dataclass(frozen=True)
class Curve:
    """Points of a line, (points,) each."""

    x: np.ndarray
    y: np.ndarray

    def at(self, x: float) -> float:
        """The height of the line over `x`, for a line that rises from left to right."""
        return float(np.interp(x, self.x, self.y))


def roc(scored: TaskScores) -> Curve | None:
    """The points (share of negatives, of positives) scored at least as high.

    None if a class is missing.
    """
    if not scored.has_both_classes:
        return None
    positives, negatives = _weights_above(scored)
    x = np.append(0.0, negatives / negatives[-1])
    y = np.append(0.0, positives / positives[-1])
    return _thinned(Curve(x, y))


def precision_recall(scored: TaskScores) -> Curve | None:
    """The points (recall, precision) of the examples scored at least as high.

    None without positives or negatives.
    """
    if not scored.has_both_classes:
        return None
    positives, negatives = _weights_above(scored)
    some = positives > 0
    recall = positives[some] / positives[-1]
    precision = positives[some] / (positives + negatives)[some]
    return _thinned(Curve(recall, precision))


def _weights_above(scored: TaskScores) -> tuple[np.ndarray, np.ndarray]:
    """The weights of positives and negatives at or above each score, highest first."""
    order = np.argsort(-scored.predictions, kind="stable")
    labels, weights = scored.labels[order], scored.weights[order]
    scores = scored.predictions[order]
    last_of_its_score = np.append(scores[1:] != scores[:-1], True)
    positives = np.cumsum(np.where(labels, weights, 0.0))[last_of_its_score]
    negatives = np.cumsum(np.where(labels, 0.0, weights))[last_of_its_score]
    return positives, negatives


def _thinned(curve: Curve) -> Curve:
    """The curve with at most some hundred points, evenly spread along the line."""
    if len(curve.x) <= _POINTS:
        return curve
    length = np.cumsum(np.hypot(np.diff(curve.x), np.diff(curve.y)))
    marks = np.linspace(0, length[-1], _POINTS)
    chosen = np.unique(np.append(0, 1 + np.searchsorted(length, marks[1:])))
    chosen = np.minimum(chosen, len(curve.x) - 1)
    return Curve(curve.x[chosen], curve.y[chosen])


@dataclasses.dataclass(frozen=True)
class Reliability:
    """Bins of examples by their prediction, (bins,) each.

    Args:
        predicted: weighted mean prediction.
        observed: weighted share of positives.
        low, high: the 95 % interval of that share.
        examples: how many examples there are.
    """

    predicted: np.ndarray
    observed: np.ndarray
    low: np.ndarray
    high: np.ndarray
    examples: np.ndarray


def reliability(scored: TaskScores, bins: int = 10) -> Reliability | None:
    """Compares predicted and observed rates in bins of equal weight; None if empty.

        observed = sum w y / sum w
        standard error = sqrt(sum w^2 (y - observed)^2) / sum w

    the error of a ratio of means by the delta method. A bin without positives (or
    negatives) has a standard error of 0; its interval ends where 3 examples of that
    class would be, the rule of three. Equal predictions share a bin.
    """
    if not len(scored.labels):
        return None
    order = np.argsort(scored.predictions, kind="stable")
    labels, weights = scored.labels[order], scored.weights[order]
    predictions = scored.predictions[order]
    _, first, inverse = np.unique(predictions, return_index=True, return_inverse=True)
    ends = np.append(np.cumsum(weights)[first[1:] - 1], weights.sum())
    middles = (np.append(0.0, ends[:-1]) + ends) / 2 / ends[-1]
    bin_of = np.minimum((middles * bins).astype(int), bins - 1)[inverse]

    def total(values: np.ndarray) -> np.ndarray:
        return np.bincount(bin_of, values, minlength=bins)

    mass = total(weights)
    some = mass > 0
    mass = np.where(some, mass, 1.0)
    observed = total(weights * labels) / mass
    error = np.sqrt(total((weights * (labels - observed[bin_of])) ** 2)) / mass
    low, high = observed - 1.96 * error, observed + 1.96 * error
    high = np.where(observed == 0, 3 * _mean(weights[labels]) / mass, high)
    low = np.where(observed == 1, 1 - 3 * _mean(weights[~labels]) / mass, low)
    return Reliability(
        (total(weights * predictions) / mass)[some],
        observed[some],
        np.clip(low, 0, 1)[some],
        np.clip(high, 0, 1)[some],
        np.bincount(bin_of, minlength=bins)[some],
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 1.0


@dataclasses.dataclass(frozen=True)
class ScoreHistogram:
    """Shares of positives and of negatives by predicted log odds.

    Args:
        edges: (bins + 1,) log odds.
        positives, negatives: (bins,) weighted shares of their class; zeros for a
            class that is missing.
    """

    edges: np.ndarray
    positives: np.ndarray
    negatives: np.ndarray


def histogram(scored: TaskScores, bins: int = 40) -> ScoreHistogram | None:
    """Counts how the scores of both classes are spread; None if empty."""
    if not len(scored.labels):
        return None
    odds = log_odds(scored.predictions)
    low, high = odds.min(), odds.max()
    if high - low < 1e-3:
        low, high = low - 0.5, high + 0.5
    edges = np.linspace(low, high, bins + 1)

    def shares(chosen: np.ndarray) -> np.ndarray:
        weights = scored.weights[chosen]
        counts, _ = np.histogram(odds[chosen], edges, weights=weights)
        return counts / max(weights.sum(), 1e-300)

    return ScoreHistogram(edges, shares(scored.labels), shares(~scored.labels))


def log_odds(probabilities: np.ndarray) -> np.ndarray:
    """The logits log(p / (1 - p)), with p kept away from 0 and 1."""
    p = np.clip(probabilities, 1e-9, 1 - 1e-7)
    return np.log(p) - np.log1p(-p)
