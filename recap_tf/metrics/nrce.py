"""Normalized RCE: relative cross entropy of predictions made right on average."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.moments import WeightedMoments
from recap_tf.metrics.machinery.task_metric import TaskMetric
from recap_tf.metrics.rce import RCE


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class NRCE(RCE):
    """Normalized RCE: that of predictions made right on average.

        prediction <- prediction * (mean label so far / mean prediction so far)

    so that it judges the order and spread of the predictions, not their level. The
    means include the batch that is being added and earlier batches are not done again:
    the value depends a little on the order of the batches. Call, arguments and NaN: as
    RCE. Logits are turned into probabilities first. Standard error: as of RCE, and the
    ratio of the means varies with the sample too.

    >>> from recap_tf.metrics.nrce import NRCE
    >>> nrce = NRCE()
    >>> nrce.update_state([1, 0, 0, 0], [0.4, 0.4, 0.4, 0.4])  # a constant
    >>> round(float(nrce.result()) + 0.0, 2)
    0.0
    """

    default_name = "nrce"

    values = 5  # those of RCE, then the prediction and d CE / d log ratio

    def add_variables(self) -> None:
        super().add_variables()
        # Before the other moments, which hold what is computed from these.
        self.level = WeightedMoments(self.tasks, 2, dtype=self.dtype)

    @property
    def parts(self) -> list[TaskMetric]:
        return [*super().parts, self.level]

    def example_values(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> list[tf.Tensor]:
        if self.from_logits:
            predictions = tf.sigmoid(predictions)
        self.level.add([labels, predictions], weights)
        label, prediction = tf.unstack(self.level.means)
        ratio = tf.math.divide_no_nan(self.smooth(label), prediction)
        labels, scaled = self.smooth(labels), predictions * ratio
        with tf.GradientTape() as tape:
            tape.watch(scaled)
            entropy = self.cross_entropy(labels, scaled)
        slope = tape.gradient(entropy, scaled) * scaled
        return [entropy, predictions, slope]

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, negative, mean_entropy, prediction, slope = tf.unstack(means)
        # Adds nothing to the value, but tells its derivative that the predictions were
        # scaled by the means.
        log_ratio = tf.math.log(self.smooth(label)) - tf.math.log(prediction)
        moved = tf.stop_gradient(slope) * (log_ratio - tf.stop_gradient(log_ratio))
        moved = tf.where(prediction > 0, moved, tf.zeros_like(moved))
        return super().value(tf.stack([label, negative, mean_entropy + moved]))
