"""Calibration: the predicted rate over the rate of the labels."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.moments import FunctionOfMeans
from recap_tf.metrics.machinery.task_metric import value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class CalibrationRatio(FunctionOfMeans):
    """PCTR / CTR: 1 is calibrated, 2 predicts twice too much; NaN without positives.

    Call: (labels, probabilities, weight), all (batch, tasks) -> (tasks,). Standard
    error: delta method for the ratio of the two means.

    >>> from recap_tf.metrics.calibration_ratio import CalibrationRatio
    >>> ratio = CalibrationRatio()
    >>> ratio.update_state([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.5])
    >>> float(ratio.result())
    2.0
    """

    default_name = "calibration_ratio"

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, prediction = tf.unstack(means)
        return value_where(label > 0, tf.math.divide_no_nan(prediction, label))
