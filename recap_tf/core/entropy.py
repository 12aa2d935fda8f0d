"""Relative cross entropy: how much better than a constant a model predicts."""

import gin
import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.means import WeightedMean
from recap_tf.core.task_metric import TaskMetric, plain_python, value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class RCE(TaskMetric):
    """Relative cross entropy in percent: 100 is perfect, 0 as good as a constant.

        RCE = 100 * (1 - mean CE(label, prediction) / CE(mean label, mean label))
        CE(y, p) = -y log(q + epsilon) - (1 - y) log(1 - q + epsilon)
        q        = p clipped to [epsilon, 1 - epsilon]

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks]. Smoothing
    replaces a label y by y (1 - label_smoothing) + label_smoothing / 2, also in the
    mean label. NaN while a task has no positives or no negatives: no constant can be
    improved on there. Source: normalized entropy, He et al. 2014 (ADKDD), eq. 1;
    RCE = 100 * (1 - normalized entropy).

    Args:
        label_smoothing: share of the label that is spread evenly over both classes;
            at least 0, less than 1.
        from_logits: the predictions are logits. Their cross entropy is exact, without
            clipping, so it can differ from that of the probabilities where these are
            below epsilon.
        epsilon: keeps the logarithms finite.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_smoothing: float = 0.0,
        from_logits: bool = False,
        epsilon: float = 1e-7,
        name: str | None = "rce",
        dtype: str = "float64",
    ):
        if not 0 <= label_smoothing < 1:
            raise ValueError(
                "label_smoothing must be at least 0 and less than 1. "
                f"Received: {label_smoothing}"
            )
        if not 0 < epsilon < 0.5:
            raise ValueError(f"epsilon must be in (0, 0.5). Received: {epsilon}")
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits
        self.epsilon = epsilon
        self.positive = WeightedMean(tasks, dtype=dtype)
        # 1 - positive, but exactly 0 if and only if there was no negative.
        self.negative = WeightedMean(tasks, dtype=dtype)
        self.cross_entropy = WeightedMean(tasks, dtype=dtype)

    @property
    def parts(self) -> list[TaskMetric]:
        return [self.positive, self.negative, self.cross_entropy]

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
        self.positive.update_state(labels, weights)
        self.negative.update_state(1 - labels, weights)
        labels = self.smooth(labels)
        self.cross_entropy.update_state(
            self.example_cross_entropy(labels, predictions, weights), weights
        )

    def smooth(self, labels: tf.Tensor) -> tf.Tensor:
        return labels * (1 - self.label_smoothing) + self.label_smoothing / 2

    def example_cross_entropy(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        """CE of each example [batch, tasks], from smoothed labels."""
        if self.from_logits:
            return tf.nn.sigmoid_cross_entropy_with_logits(labels, predictions)
        return clipped_cross_entropy(labels, predictions, self.epsilon)

    def result(self) -> tf.Tensor:
        rate = self.smooth(self.positive.mean)
        constant = clipped_cross_entropy(rate, rate, self.epsilon)
        relative = 100 * (1 - self.cross_entropy.mean / constant)
        both = (self.positive.mean > 0) & (self.negative.mean > 0)
        return value_where(both, relative)

    def get_config(self):
        return super().get_config() | {
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
            "epsilon": self.epsilon,
        }


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class NRCE(RCE):
    """Normalized RCE: that of predictions made right on average.

        prediction <- prediction * (mean label so far / mean prediction so far)

    so that it judges the order and spread of the predictions, not their level. The
    means include the batch that is being added and earlier batches are not done again:
    the value depends a little on the order of the batches. Call, arguments and NaN: as
    RCE. Logits are turned into probabilities first.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_smoothing: float = 0.0,
        from_logits: bool = False,
        epsilon: float = 1e-7,
        name: str | None = "nrce",
        dtype: str = "float64",
    ):
        super().__init__(tasks, label_smoothing, from_logits, epsilon, name, dtype)
        self.prediction = WeightedMean(tasks, dtype=dtype)

    @property
    def parts(self) -> list[TaskMetric]:
        return [*super().parts, self.prediction]

    def example_cross_entropy(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> tf.Tensor:
        if self.from_logits:
            predictions = tf.sigmoid(predictions)
        self.prediction.update_state(predictions, weights)
        rate = self.smooth(self.positive.mean)
        ratio = tf.math.divide_no_nan(rate, self.prediction.mean)
        return clipped_cross_entropy(labels, predictions * ratio, self.epsilon)


def clipped_cross_entropy(
    labels: tf.Tensor, probabilities: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """CE(y, p) of the docstring of `RCE`, elementwise."""
    # 1 - epsilon as float32 has it: the values of the field are computed in float32,
    # and a wrong prediction of exactly 1 weighs by this distance from 1.
    highest = float(np.float32(1 - epsilon))
    probabilities = tf.clip_by_value(probabilities, epsilon, highest)
    return -(
        labels * tf.math.log(probabilities + epsilon)
        + (1 - labels) * tf.math.log(1 - probabilities + epsilon)
    )
