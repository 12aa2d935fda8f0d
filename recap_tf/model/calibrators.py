"""Post-hoc calibrators: what a model predicts -> what really happens at that score.

A map takes a score, the log odds of the predicted probability, to a probability. It
never reverses the order of two scores. Fitting is NumPy in float64, once, on a
validation set; applying is a few TensorFlow ops, so that an export has it inside.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf
from sklearn.isotonic import IsotonicRegression

Method = Literal["isotonic", "platt"]
_NEWTON_STEPS = 100
_SMALLEST_DESCENT = 1e-14


@dataclasses.dataclass(frozen=True)
class PlattMap:
    """Platt scaling, sigmoid(slope * score + offset): (batch,) -> (batch,) float32.

    Platt 1999, "Probabilistic outputs for support vector machines"; on log odds, so
    that slope 1 and offset 0 change nothing.

    Args:
        slope: finite, at least 0.
        offset: finite.

    >>> import tensorflow as tf
    >>> from recap_tf.model.calibrators import PlattMap
    >>> steeper = PlattMap(slope=2.0, offset=0.0)
    >>> [round(float(p), 3) for p in steeper(tf.constant([0.0, 1.0]))]
    [0.5, 0.881]
    """

    slope: float
    offset: float
    method: ClassVar[Method] = "platt"

    def __post_init__(self):
        if not (np.isfinite([self.slope, self.offset]).all() and self.slope >= 0):
            raise ValueError(
                "A Platt map needs a finite offset and a finite slope of at least 0. "
                f"Received: slope={self.slope}, offset={self.offset}"
            )

    @property
    def numbers(self) -> tuple:
        """The numbers that `apply` takes after the scores."""
        return self.slope, self.offset

    @staticmethod
    def apply(scores: tf.Tensor, slope: tf.Tensor, offset: tf.Tensor) -> tf.Tensor:
        return tf.sigmoid(slope * scores + offset)

    def __call__(self, scores: tf.Tensor) -> tf.Tensor:
        return self.apply(scores, *self.numbers)

    def __str__(self) -> str:
        return f"platt, sigmoid({self.slope:.4g} * log odds {self.offset:+.4g})"


@dataclasses.dataclass(frozen=True)
class IsotonicMap:
    """A rising line through knots, level beyond its ends: (batch,) -> (batch,) float32.

    Linear between the knots (scores[i], probabilities[i]).

    Args:
        scores: of the knots, rising strictly also in float32.
        probabilities: of the knots, not falling, in [0, 1].

    >>> import tensorflow as tf
    >>> from recap_tf.model.calibrators import IsotonicMap
    >>> line = IsotonicMap(scores=(0.0, 2.0), probabilities=(0.25, 0.75))
    >>> line(tf.constant([-9.0, 1.0, 9.0])).numpy().tolist()
    [0.25, 0.5, 0.75]
    """

    scores: tuple[float, ...]
    probabilities: tuple[float, ...]
    method: ClassVar[Method] = "isotonic"

    def __post_init__(self):
        for name in ("scores", "probabilities"):
            object.__setattr__(self, name, tuple(getattr(self, name)))
        x = np.asarray(self.scores, np.float32)
        y = np.asarray(self.probabilities, np.float32)
        rising = x.ndim == 1 and len(x) == len(y) > 0 and np.isfinite(x).all()
        rising = rising and (np.diff(x) > 0).all() and (np.diff(y) >= 0).all()
        if not (rising and y[0] >= 0 and y[-1] <= 1):
            raise ValueError(
                "An isotonic map needs knots of rising scores and of probabilities in "
                f"[0, 1] that do not fall. Received: {len(x)} scores, {len(y)} "
                "probabilities"
            )

    @property
    def numbers(self) -> tuple:
        """The numbers that `apply` takes after the scores."""
        return self.scores, self.probabilities

    @staticmethod
    def apply(scores: tf.Tensor, x: tf.Tensor, y: tf.Tensor) -> tf.Tensor:
        last = tf.size(x) - 1
        inside = tf.clip_by_value(scores, x[0], x[last])
        above = tf.clip_by_value(tf.searchsorted(x, inside, side="right"), 0, last)
        below = tf.maximum(above - 1, 0)
        x0, y0, y1 = tf.gather(x, below), tf.gather(y, below), tf.gather(y, above)
        share = tf.math.divide_no_nan(inside - x0, tf.gather(x, above) - x0)
        value = tf.minimum(y0 + (y1 - y0) * share, y1)  # Rounding may go past y1.
        # A score that is not a number has no place among the knots.
        return tf.where(tf.math.is_nan(scores), scores, value)

    def __call__(self, scores: tf.Tensor) -> tf.Tensor:
        numbers = [tf.constant(values, tf.float32) for values in self.numbers]
        return self.apply(scores, *numbers)

    def __str__(self) -> str:
        low, high = self.probabilities[0], self.probabilities[-1]
        return f"isotonic, {len(self.scores)} knots from {low:.4g} to {high:.4g}"


CalibrationMap = PlattMap | IsotonicMap
_MAPS = {kind.method: kind for kind in (PlattMap, IsotonicMap)}


def fit_platt(
    scores: np.ndarray,
    labels: np.ndarray,
    weights: np.ndarray,
    smooth_targets: bool = True,
) -> PlattMap:
    """The Platt map of least weighted cross-entropy, by Newton's method.

    Where the order of the scores is worse than chance the slope is 0, not negative.

    >>> import numpy as np
    >>> from recap_tf.model.calibrators import fit_platt
    >>> scores = np.array([-2.0, -1.0, 1.0, 2.0])
    >>> fit = fit_platt(scores, np.array([0, 1, 0, 1]), np.ones(4))
    >>> round(float(fit.slope), 3)
    0.202

    Args:
        scores, labels, weights: (examples,); labels 0 or 1, both with some weight.
        smooth_targets: as Platt does, aim a little below 1 and above 0,

                (P + u) / (P + 2 u)  for positives,  u / (N + 2 u)  for negatives,

            P and N the weights of all positives and negatives, u that of the average
            positive; with weights of 1 they are his. It keeps the slope finite when
            the scores separate the classes.
    """
    scores, labels, weights = _weighted(scores, labels, weights)
    positive, negative, unit = _class_weights(labels, weights)
    high, low = 1.0, 0.0
    if smooth_targets:
        high = (positive + unit) / (positive + 2 * unit)
        low = unit / (negative + 2 * unit)
    targets = np.where(labels > 0, high, low)
    shares = weights / weights.sum()
    # Newton's method is at its best on scores of mean 0 and spread 1.
    mean = shares @ scores
    spread = np.sqrt(shares @ (scores - mean) ** 2) or 1.0
    slope, offset = _newton((scores - mean) / spread, targets, shares)
    if slope <= 0:
        rate = shares @ targets
        return PlattMap(0.0, float(np.log(rate / (1 - rate))))
    return PlattMap(float(slope / spread), float(offset - slope * mean / spread))


def _newton(x: np.ndarray, targets: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """The (slope, offset) of least mean cross-entropy.

    Lin, Lin and Weng 2007, with its halved steps.
    """

    def loss(parameters):
        z = parameters[0] * x + parameters[1]
        return shares @ (np.logaddexp(0, z) - targets * z)

    rate = shares @ targets
    best = np.array([0.0, np.log(rate / (1 - rate))])
    value = loss(best)
    for _ in range(_NEWTON_STEPS):
        p = 0.5 * (1 + np.tanh((best[0] * x + best[1]) / 2))
        error, curve = shares * (p - targets), shares * p * (1 - p)
        gradient = np.array([error @ x, error.sum()])
        cross = curve @ x
        hessian = np.array([[curve @ x**2, cross], [cross, curve.sum()]])
        step = np.linalg.solve(hessian + 1e-12 * np.eye(2), gradient)
        descent = gradient @ step
        if descent < _SMALLEST_DESCENT:
            break
        size = 1.0
        while (lower := loss(best - size * step)) > value - 1e-4 * size * descent:
            size /= 2
            if size < 1e-10:
                return best
        best, value = best - size * step, lower
    return best


def fit_isotonic(
    scores: np.ndarray, labels: np.ndarray, weights: np.ndarray
) -> IsotonicMap:
    """The rising map of least weighted squared error (pool adjacent violators).

    Equal scores are one point. The lowest block often has no positive and the highest
    no negative; 0 and 1 would cost infinitely much where they are wrong, so these two
    ends follow the rule of succession, as if they had seen one more positive and one
    more negative of the average positive's weight u:

        u / (W + 2 u)  instead of 0,  1 - u / (W + 2 u)  instead of 1,

    W the weight of the block; but no nearer to the next block than half way. Zadrozny
    and Elkan 2002, "Transforming classifier scores into accurate multiclass
    probability estimates".

    >>> import numpy as np
    >>> from recap_tf.model.calibrators import fit_isotonic
    >>> scores, labels = np.array([-2.0, -1.0, 1.0, 2.0]), np.array([0, 1, 0, 1])
    >>> fit = fit_isotonic(scores, labels, np.ones(4))
    >>> fit.probabilities
    (0.25, 0.5, 0.5, 0.75)

    Args:
        scores, labels, weights: (examples,); labels 0 or 1, both with some weight.
    """
    scores, labels, weights = _weighted(scores, labels, weights)
    unit = _class_weights(labels, weights)[2]
    fitted = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fitted.fit(scores, labels, sample_weight=weights)
    # A mean of ones may come out as 1 - 1e-16.
    x, y = fitted.X_thresholds_, fitted.y_thresholds_.round(15)
    ends = y.copy()
    if y[0] <= 0:
        block = weights[scores <= x[y <= 0][-1]].sum()
        ends[y <= 0] = min(unit / (block + 2 * unit), y[y > 0][0] / 2)
    if y[-1] >= 1:
        block = weights[scores >= x[y >= 1][0]].sum()
        ends[y >= 1] = max(1 - unit / (block + 2 * unit), (1 + y[y < 1][-1]) / 2)
    return IsotonicMap(x.tolist(), ends.tolist())


def _weighted(*columns: np.ndarray) -> list[np.ndarray]:
    """The columns in float64, without the rows whose weight, the last, is 0."""
    counted = np.asarray(columns[-1]) > 0
    return [np.asarray(column, np.float64)[counted] for column in columns]


def _class_weights(labels, weights) -> tuple[float, float, float]:
    """The weight of all positives, of all negatives, of the average positive."""
    positive = weights[labels > 0]
    negative = weights[labels <= 0].sum()
    if not (len(positive) and negative > 0):
        raise ValueError(
            "A calibrator needs positives and negatives of some weight. Received: "
            f"{len(positive)} positives of {len(labels)} examples"
        )
    return positive.sum(), negative, positive.mean()


FITS: Mapping[str, Callable[..., CalibrationMap]] = {
    "isotonic": fit_isotonic,
    "platt": fit_platt,
}


class ServedMap:
    """A map with its numbers in variables.

    Exports with other calibrators of the same methods are then the same graph with
    other variables, which a server takes in the place of the last ones.
    """

    def __init__(self, of: CalibrationMap):
        self._of = of
        self.variables = [
            tf.Variable(
                tf.constant(values, tf.float32),
                shape=tf.TensorShape([None] * np.ndim(values)),
                trainable=False,
            )
            for values in of.numbers
        ]

    def __call__(self, scores: tf.Tensor) -> tf.Tensor:
        return self._of.apply(scores, *self.variables)


@dataclasses.dataclass(frozen=True)
class Calibrators:
    """The maps of a model's tasks.

    Call: tasks, scores, probabilities, the last two (batch, tasks) float32 ->
    (batch, tasks) float32.

    Args:
        maps: task -> its map; a task without one keeps its probability.
        fitted_on: task -> name of the validation set.
    """

    maps: Mapping[str, CalibrationMap]
    fitted_on: Mapping[str, str]

    def __call__(
        self, tasks: Sequence[str], scores: tf.Tensor, probabilities: tf.Tensor
    ) -> tf.Tensor:
        columns = [
            self.maps[task](scores[:, i]) if task in self.maps else probabilities[:, i]
            for i, task in enumerate(tasks)
        ]
        return tf.stack(columns, axis=1)

    def for_serving(self) -> tuple["Calibrators", list[tf.Variable]]:
        """These calibrators with their numbers in variables; see `ServedMap`.

        Returns:
            the calibrators, and the variables in the order of the tasks' names.
        """
        maps = {task: ServedMap(of) for task, of in self.maps.items()}
        variables = [v for task in sorted(maps) for v in maps[task].variables]
        return Calibrators(maps, self.fitted_on), variables

    def __str__(self) -> str:
        kinds = {
            (map_.method, self.fitted_on[task]): None
            for task, map_ in self.maps.items()
        }
        return ", ".join(f"{method} fitted on {name}" for method, name in kinds)

    def as_json(self) -> dict[str, Any]:
        """The calibrators as plain values, which `from_json` reads back."""
        return {
            task: {"method": map_.method, "fitted_on": self.fitted_on[task]}
            | dataclasses.asdict(map_)
            for task, map_ in self.maps.items()
        }

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> "Calibrators":
        maps, fitted_on = {}, {}
        for task, entry in stored.items():
            entry = dict(entry)
            fitted_on[task] = entry.pop("fitted_on")
            maps[task] = _MAPS[entry.pop("method")](**entry)
        return cls(maps, fitted_on)
