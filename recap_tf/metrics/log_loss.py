"""Log loss: the mean cross entropy of labels and predictions."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.weighted_mean import MeanMetric


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class LogLoss(MeanMetric):
    """Mean of the cross entropy in nats; 0 is perfect.

        CE(y, p) = -y log(q) - (1 - y) log(1 - q),  q = p clipped to [eps, 1 - eps]

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,). Standard error:
    that of a weighted mean.

    Args:
        from_logits: the predictions are logits; exact, without clipping.
        epsilon: keeps the logarithms finite; in (0, 0.5).

    >>> from recap_tf.metrics.log_loss import LogLoss
    >>> loss = LogLoss()
    >>> loss.update_state([1, 0], [0.5, 0.5])
    >>> round(float(loss.result()), 4)  # log 2
    0.6931
    """

    default_name = "log_loss"

    def __init__(
        self,
        tasks: int | None = None,
        from_logits: bool = False,
        epsilon: float = 1e-7,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("epsilon", epsilon, above=0, below=0.5)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.from_logits = from_logits
        self.epsilon = epsilon

    def add_examples(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> None:
        if self.from_logits:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels, predictions)
        else:
            loss = cross_entropy(labels, predictions, self.epsilon)
        self.add([loss], weights)


def cross_entropy(
    labels: tf.Tensor, probabilities: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """The cross entropy of the docstring of `LogLoss`, elementwise."""
    probabilities = tf.clip_by_value(probabilities, epsilon, 1 - epsilon)
    return -(
        labels * tf.math.log(probabilities)
        + (1 - labels) * tf.math.log1p(-probabilities)
    )
