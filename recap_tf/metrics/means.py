"""Weighted means per task: click-through rate, predicted rate, calibration."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.moments import FunctionOfMeans, WeightedMoments
from recap_tf.metrics.task_metric import plain_python, value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class WeightedMean(WeightedMoments):
    """Mean of the values seen so far, weighted; NaN before any weight.

    Call: values [batch, tasks], sample_weight -> [tasks]. How it is accumulated and
    the standard error (NaN below two examples): see `WeightedMoments`.
    """

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "weighted_mean",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)

    @property
    def mean(self) -> tf.Tensor:
        """[tasks]; 0 before any weight."""
        return self.means[0]

    @plain_python
    def update_state(
        self, values: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        values, weights = self.inputs(sample_weight, values=values)
        self.add([values], weights)

    def result(self) -> tf.Tensor:
        return super().result()[0]

    def standard_error(self) -> tf.Tensor:
        return super().standard_error()[0]

    def get_config(self):
        config = super().get_config()
        del config["values"]
        return config


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
class CalibrationRatio(FunctionOfMeans):
    """PCTR / CTR: 1 is calibrated, 2 predicts twice too much; NaN without positives.

    Call: (labels, probabilities, weight), all [batch, tasks] -> [tasks]. Standard
    error: delta method for the ratio of the two means.
    """

    values = 2

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "calibration_ratio",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor,
        predictions: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        labels, predictions, weights = self.inputs(
            sample_weight, labels=labels, predictions=predictions
        )
        self.moments.add([labels, predictions], weights)

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, prediction = tf.unstack(means)
        return value_where(label > 0, tf.math.divide_no_nan(prediction, label))
