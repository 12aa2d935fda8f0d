"""Normalized entropy: cross entropy over that of the best constant."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.log_loss import cross_entropy
from recap_tf.metrics.machinery.task_metric import value_where
from recap_tf.metrics.rce import RCE


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class NormalizedEntropy(RCE):
    """Mean cross entropy over that of the mean label: 0 is perfect, 1 a constant.

        NE = mean CE(label, prediction) / CE(mean label, mean label)
        CE(y, p) = -y log(q) - (1 - y) log(1 - q)
        q        = p clipped to [epsilon, 1 - epsilon]

    Call, arguments, NaN and standard error: as RCE, which is 100 * (1 - NE) up to the
    epsilon that RCE adds inside its logarithms. Source: He et al. 2014 (ADKDD), eq. 1.

    >>> from recap_tf.metrics.normalized_entropy import NormalizedEntropy
    >>> entropy = NormalizedEntropy()
    >>> entropy.update_state([1, 0, 0, 0], [0.25, 0.25, 0.25, 0.25])
    >>> round(float(entropy.result()), 4)
    1.0
    """

    default_name = "normalized_entropy"

    def cross_entropy(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        return cross_entropy(labels, probabilities, self.epsilon)

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, negative, mean_entropy = tf.unstack(means)
        ratio = self.entropy_ratio(label, mean_entropy)
        return value_where((label > 0) & (negative > 0), ratio)
