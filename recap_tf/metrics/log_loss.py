"""Log loss: the mean cross entropy of labels and predictions."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.means import WeightedMean
from recap_tf.metrics.task_metric import plain_python


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class LogLoss(WeightedMean):
    """Mean of the cross entropy in nats; 0 is perfect.

        CE(y, p) = -y log(q) - (1 - y) log(1 - q),  q = p clipped to [eps, 1 - eps]

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks]. Standard error:
    that of a weighted mean.

    Args:
        from_logits: the predictions are logits; exact, without clipping.
        epsilon: keeps the logarithms finite.
    """

    def __init__(
        self,
        tasks: int | None = None,
        from_logits: bool = False,
        epsilon: float = 1e-7,
        name: str | None = "log_loss",
        dtype: str = "float64",
    ):
        if not 0 < epsilon < 0.5:
            raise ValueError(f"epsilon must be in (0, 0.5). Received: {epsilon}")
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.from_logits = from_logits
        self.epsilon = epsilon

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
        if self.from_logits:
            loss = tf.nn.sigmoid_cross_entropy_with_logits(labels, predictions)
        else:
            loss = cross_entropy(labels, predictions, self.epsilon)
        self.add([loss], weights)

    def get_config(self):
        return super().get_config() | {
            "from_logits": self.from_logits,
            "epsilon": self.epsilon,
        }


def cross_entropy(
    labels: tf.Tensor, probabilities: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """CE(y, p) of the docstring of `LogLoss`, elementwise."""
    probabilities = tf.clip_by_value(probabilities, epsilon, 1 - epsilon)
    return -(
        labels * tf.math.log(probabilities)
        + (1 - labels) * tf.math.log1p(-probabilities)
    )
