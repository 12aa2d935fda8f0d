"""Schedules of the learning rate, ramps among them: step -> learning rate.

Step k is the k-th update, counted from 0, and uses the value at k. The arithmetic is
float64, the value handed to Keras float32.
"""

import math
from collections.abc import Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range


class Schedule(keras.optimizers.schedules.LearningRateSchedule):
    """A learning rate as a function of the step."""

    def __call__(self, step):
        return tf.cast(self.exact(step), tf.float32)

    def exact(self, step) -> tf.Tensor:
        """The float64 learning rate at `step`, a number or tensor of any shape."""
        return self.rate(tf.cast(step, tf.float64))

    def rate(self, step: tf.Tensor) -> tf.Tensor:
        """The learning rates of steps, both float64 and of the same shape."""
        raise NotImplementedError("A schedule defines rate().")

    def get_config(self):
        return dict(vars(self))


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ConstantLearningRate(Schedule):
    """A learning rate that never changes: rate = learning_rate.

    >>> from recap_tf.core.optimizers.learning_rate_schedules import (
    ...     ConstantLearningRate,
    ... )
    >>> float(ConstantLearningRate(0.5)(1000))
    0.5
    """

    def __init__(self, learning_rate: float):
        check_range("ConstantLearningRate.learning_rate", learning_rate, at_least=0)
        self.learning_rate = learning_rate

    def rate(self, step):
        return tf.fill(tf.shape(step), tf.constant(self.learning_rate, tf.float64))


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PiecewiseConstant(Schedule):
    """A learning rate that jumps: rate = values[number of boundaries <= step].

    Args:
        boundaries: steps, ascending, at which the next value starts to hold.
        values: learning rates of at least 0, one more than boundaries.

    >>> from recap_tf.core.optimizers.learning_rate_schedules import PiecewiseConstant
    >>> schedule = PiecewiseConstant(boundaries=[10], values=[0.5, 0.25])
    >>> [float(schedule(step)) for step in (9, 10)]
    [0.5, 0.25]
    """

    def __init__(self, boundaries: Sequence[int], values: Sequence[float]):
        if len(values) != len(boundaries) + 1:
            raise ValueError(
                "PiecewiseConstant.values must be one more than its boundaries. "
                f"Received: {len(values)} values, {len(boundaries)} boundaries"
            )
        if list(boundaries) != sorted(set(boundaries)):
            raise ValueError(
                "PiecewiseConstant.boundaries must ascend. Received: "
                f"{list(boundaries)}"
            )
        self.boundaries = list(boundaries)
        for place, value in enumerate(values):
            check_range(f"PiecewiseConstant.values[{place}]", value, at_least=0)
        self.values = list(values)

    def rate(self, step):
        boundaries = tf.constant(self.boundaries, tf.float64)
        passed = tf.reduce_sum(
            tf.cast(boundaries <= step[..., tf.newaxis], tf.int32), axis=-1
        )
        return tf.gather(tf.constant(self.values, tf.float64), passed)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class LinearRampToConstant(Schedule):
    """A linear ramp: rate = min(learning_rate, learning_rate / ramp_steps * step).

    Args:
        learning_rate: at least 0; reached at step `ramp_steps`, kept from there.
        ramp_steps: length of the ramp; the update of step 0 has rate 0.

    >>> from recap_tf.core.optimizers.learning_rate_schedules import (
    ...     LinearRampToConstant,
    ... )
    >>> schedule = LinearRampToConstant(learning_rate=0.5, ramp_steps=4)
    >>> [float(schedule(step)) for step in (0, 1, 4, 100)]
    [0.0, 0.125, 0.5, 0.5]
    """

    def __init__(self, learning_rate: float, ramp_steps: int):
        check_range("LinearRampToConstant.learning_rate", learning_rate, at_least=0)
        check_range("LinearRampToConstant.ramp_steps", ramp_steps, at_least=1)
        self.learning_rate, self.ramp_steps = learning_rate, ramp_steps

    def rate(self, step):
        ramp = self.learning_rate / self.ramp_steps * step
        return tf.minimum(tf.constant(self.learning_rate, tf.float64), ramp)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class LinearRampToCosine(Schedule):
    """A linear ramp, then half a cosine down to `final_learning_rate`.

        progress = clip((step - ramp_steps) / (final_steps - ramp_steps), 0, 1)
        rate     = final + (learning_rate - final) * (1 + cos(pi * progress)) / 2

    Args:
        learning_rate: at least 0; reached at step `ramp_steps`.
        ramp_steps: length of the ramp, at least 1.
        final_learning_rate: reached at step `final_steps`, kept from there.
        final_steps: end of the cosine, counted from step 0.

    >>> from recap_tf.core.optimizers.learning_rate_schedules import LinearRampToCosine
    >>> schedule = LinearRampToCosine(0.5, 4, final_learning_rate=0.0, final_steps=12)
    >>> [round(float(schedule(step)), 3) for step in (2, 4, 8, 12)]
    [0.25, 0.5, 0.25, 0.0]
    """

    def __init__(
        self,
        learning_rate: float,
        ramp_steps: int,
        final_learning_rate: float,
        final_steps: int,
    ):
        check_range("LinearRampToCosine.learning_rate", learning_rate, at_least=0)
        check_range("LinearRampToCosine.ramp_steps", ramp_steps, at_least=1)
        self.learning_rate, self.ramp_steps = learning_rate, ramp_steps
        self.final_learning_rate = final_learning_rate
        self.final_steps = final_steps
        if final_steps <= ramp_steps:
            raise ValueError(
                "LinearRampToCosine.final_steps must be more than ramp_steps = "
                f"{ramp_steps}. Received: {final_steps}"
            )

    def rate(self, step):
        ramp = self.learning_rate / self.ramp_steps * step
        length = self.final_steps - self.ramp_steps
        progress = tf.clip_by_value((step - self.ramp_steps) / length, 0.0, 1.0)
        height = self.learning_rate - self.final_learning_rate
        cosine = height * (1.0 + tf.cos(math.pi * progress)) / 2.0
        return tf.where(step < self.ramp_steps, ramp, self.final_learning_rate + cosine)


@gin.register
def linear_ramps(
    rates: dict[str, tuple[float, int]],
) -> dict[str, LinearRampToConstant]:
    """A ramp for each group: {group: (learning rate, ramp steps)} -> {group: ramp}."""
    return {group: LinearRampToConstant(*rate) for group, rate in rates.items()}
