"""The model behind made-up labels: stored feature values -> each task's true log-odds.

No ranker can do better than these log-odds, so their AUROC against the drawn labels
is the best reachable one.
"""

import dataclasses
import zlib
from collections.abc import Mapping

import numpy as np

from recap_tf.synthesis.columns import Column, Requests

INTERACTION_SHARE = 0.08
"""How much of a log-odds' variance comes from products of two signals."""

_LOGIT_SPREAD = (1.5, 2.5)
_REFERENCE_USERS, _REFERENCE_CANDIDATES = 4096, 2
_BIAS_SAMPLES = 1 << 18


@dataclasses.dataclass(frozen=True, kw_only=True)
class HiddenModel:
    """Log-odds of every task in natural traffic.

        z       = standardized sums of columns, one per hidden factor: the signals
        logit_t = bias_t + z @ weights_t + (z[pairs_t, 0] * z[pairs_t, 1]) @ products_t

    Args:
        projections: feature -> (used columns, signals) matrix; the features' signals
            in this order make z.
        mean, deviation: (S,) of the signals before they are standardized.
        weights: (S, tasks).
        pairs: (tasks, P, 2) indices of signals.
        products: (tasks, P).
        bias: (tasks,).
    """

    projections: Mapping[str, np.ndarray]
    mean: np.ndarray
    deviation: np.ndarray
    weights: np.ndarray
    pairs: np.ndarray
    products: np.ndarray
    bias: np.ndarray

    def logits(
        self, columns: Mapping[str, Column], values: Mapping[str, np.ndarray]
    ) -> np.ndarray:
        """Natural log-odds (n, tasks) of values as drawn, feature -> (n, width)."""
        signals = _project(columns, values, self.projections)
        return self.combine((signals - self.mean) / self.deviation) + self.bias

    def turned(self, other: "HiddenModel", degrees: float) -> "HiddenModel":
        """This model, its weights turned towards those of `other`."""
        angle = np.float32(np.deg2rad(degrees))
        weights = np.cos(angle) * self.weights + np.sin(angle) * other.weights
        return dataclasses.replace(self, weights=weights)

    def combine(self, z: np.ndarray) -> np.ndarray:
        """Standardized signals (n, S) -> log-odds less the bias, (n, tasks)."""
        products = z[:, self.pairs[..., 0]] * z[:, self.pairs[..., 1]]
        linear = np.einsum("ns,st->nt", z, self.weights)
        return linear + np.einsum("ntp,tp->nt", products, self.products)


def fit_hidden_model(
    columns: Mapping[str, Column],
    natural_rates: Mapping[str, float],
    seed: int,
) -> HiddenModel:
    """Draws a hidden model, its biases such that the natural rates hold.

    A task's share of the model depends on the seed and the task's name alone.

    Args:
        columns: how the features are drawn.
        natural_rates: task -> share of positives in natural traffic, for all tasks.
        seed: of the hidden structure.

    Raises:
        ValueError: no feature can carry a signal.
    """
    speaking = {n: column for n, column in columns.items() if column.directions.size}
    if not speaking:
        raise ValueError(
            "Synthetic labels need a float feature of fixed length, or one called "
            f"`binary`, to depend on. Received: {sorted(columns)}"
        )
    rng = np.random.default_rng([seed, zlib.crc32(b"reference")])
    requests = Requests(np.full(_REFERENCE_USERS, _REFERENCE_CANDIDATES))
    values = {name: column.draw(rng, requests)[0] for name, column in speaking.items()}
    projections = {
        name: _projection(column, column.view(values[name]))
        for name, column in speaking.items()
    }
    signals = _project(speaking, values, projections)
    mean, deviation = signals.mean(0), signals.std(0) + 1e-6
    from_user = np.concatenate([column.from_user for column in speaking.values()])
    common = np.random.default_rng([seed, zlib.crc32(b"common")])
    common = common.normal(size=len(from_user))
    drawn = [_draw_task(task, common, from_user, seed) for task in natural_rates]
    model = HiddenModel(
        projections=projections,
        mean=mean,
        deviation=deviation,
        weights=np.stack([weights for weights, _, _ in drawn], 1),
        pairs=np.stack([pairs for _, pairs, _ in drawn]),
        products=np.stack([products for _, _, products in drawn]),
        bias=np.zeros(len(drawn), np.float32),
    )
    z = (signals - mean) / deviation
    # The factors are independent of each other, so shuffling each signal by itself
    # makes many more samples of the same distribution; rare tasks live in its tail.
    z = np.stack([rng.choice(signal, _BIAS_SAMPLES) for signal in z.T], 1)
    bias = [
        _solve_bias(logits, rate)
        for logits, rate in zip(model.combine(z).T, natural_rates.values(), strict=True)
    ]
    return dataclasses.replace(model, bias=np.array(bias, np.float32))


def _projection(column: Column, view: np.ndarray) -> np.ndarray:
    """The column's directions, scaled so that every used column counts alike."""
    if not column.standardized:
        return column.directions
    deviation = view.std(0)
    # A column that is almost always 0 would bring nothing but outliers.
    usable = (deviation > 0) & (np.mean(view != 0, axis=0) > 0.1)
    scale = usable / np.where(usable, deviation, 1.0)
    return column.directions * scale[:, None].astype(np.float32)


def _project(
    columns: Mapping[str, Column],
    values: Mapping[str, np.ndarray],
    projections: Mapping[str, np.ndarray],
) -> np.ndarray:
    # Not `@`: BLAS's own threads get in the way of ours, and its sums depend on them.
    parts = [
        np.einsum("nc,cs->ns", columns[name].view(values[name]), matrix)
        for name, matrix in projections.items()
    ]
    return np.concatenate(parts, axis=1)


def _draw_task(
    task: str, common: np.ndarray, from_user: np.ndarray, seed: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights (S,), pairs (P, 2) and products (P,) of one task."""
    rng = np.random.default_rng([seed, zlib.crc32(task.encode())])
    spread = rng.uniform(*_LOGIT_SPREAD)
    weights = 2.0 * common + rng.normal(size=len(common))
    sides = [side for side in (from_user, ~from_user) if side.any()]
    # Neither the user nor the candidate alone explains a task.
    share = rng.uniform(0.35, 0.65)
    shares = [share, 1.0 - share] if len(sides) == 2 else [1.0]
    for side, share in zip(sides, shares, strict=True):
        weights[side] *= np.sqrt(share / np.sum(weights[side] ** 2))
    pairs = np.stack([rng.choice(np.flatnonzero(s), 2) for s in (sides[0], sides[-1])])
    products = rng.choice([-1.0, 1.0], 2) * np.sqrt(INTERACTION_SHARE / 2)
    weights *= np.sqrt(1.0 - INTERACTION_SHARE)
    return (
        (spread * weights).astype(np.float32),
        pairs.T,
        (spread * products).astype(np.float32),
    )


def _solve_bias(logits: np.ndarray, rate: float) -> float:
    """b with mean(sigmoid(logits + b)) = rate, by bisection."""
    low, high = -60.0, 60.0
    for _ in range(50):
        middle = (low + high) / 2
        if np.mean(sigmoid(logits + middle)) < rate:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def sigmoid(x: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-x)), in float64."""
    return 1.0 / (1.0 + np.exp(-x.astype(np.float64)))
