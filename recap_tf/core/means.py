"""Weighted means per task: click-through rate, predicted rate, calibration."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.task_metric import TaskMetric, plain_python, value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class WeightedMean(TaskMetric):
    """Mean of the values seen so far, weighted; NaN before any weight.

        weight_sum <- weight_sum + sum(w)
        mean       <- mean + sum(w * (value - mean)) / weight_sum

    Call: values [batch, tasks], sample_weight -> [tasks]. The update adds small
    differences to the mean instead of keeping a sum, so nothing grows with the number
    of examples but `weight_sum`. A value of weight 0 changes nothing, even if it is
    NaN. Source: Welford 1962; West 1979 (weighted); merging: Chan et al. 1979.
    """

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "weighted_mean",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.mean = self.add_state("mean")
        self.weight_sum = self.add_state("weight_sum")

    @plain_python
    def update_state(
        self, values: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        values, weights = self.inputs(sample_weight, values=values)
        batch_sum = tf.reduce_sum(weights, axis=0)
        total = self.weight_sum + tf.reshape(batch_sum, self.weight_sum.shape)
        # Dividing the weights, not the sum, keeps values near the largest number of
        # the dtype from overflowing.
        share = tf.math.divide_no_nan(weights, total)
        difference = values - self.mean
        step = tf.reduce_sum(tf.math.multiply_no_nan(difference, share), axis=0)
        self.mean.assign_add(tf.reshape(step, self.mean.shape))
        self.weight_sum.assign(total)

    def merge_one(self, metric: "WeightedMean") -> None:
        total = self.weight_sum + metric.weight_sum
        share = tf.math.divide_no_nan(metric.weight_sum, total)
        self.mean.assign_add((metric.mean - self.mean) * share)
        self.weight_sum.assign(total)

    def result(self) -> tf.Tensor:
        return value_where(self.weight_sum > 0, self.mean)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class CTR(WeightedMean):
    """Click-through rate: the mean label. Call: (labels, predictions, weight)."""

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "ctr",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor,
        predictions: tf.Tensor | None = None,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        super().update_state(labels, sample_weight)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PCTR(WeightedMean):
    """Predicted click-through rate: the mean probability.

    Call: (labels, probabilities, weight); the labels are not used.
    """

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "pctr",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor | None,
        predictions: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        super().update_state(predictions, sample_weight)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class CalibrationRatio(TaskMetric):
    """PCTR / CTR: 1 is calibrated, 2 predicts twice too much; NaN without positives.

    Call: (labels, probabilities, weight), all [batch, tasks] -> [tasks].
    """

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "calibration_ratio",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.ctr = CTR(tasks, dtype=dtype)
        self.pctr = PCTR(tasks, dtype=dtype)

    @property
    def parts(self) -> list[TaskMetric]:
        return [self.ctr, self.pctr]

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor,
        predictions: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        for part in self.parts:
            part.update_state(labels, predictions, sample_weight)

    def result(self) -> tf.Tensor:
        ratio = tf.math.divide_no_nan(self.pctr.mean, self.ctr.mean)
        return value_where(self.ctr.mean > 0, ratio)
