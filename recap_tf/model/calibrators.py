"""Post-hoc calibrators: what a model predicts -> what really happens at that score.

A map takes a score, the log odds of the predicted probability, to a probability. It
never reverses the order of two scores. Fitting is NumPy in float64, once, on a
validation set; applying is a few TensorFlow ops, so that an export has it inside.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf

Method = Literal["isotonic", "platt"]


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
