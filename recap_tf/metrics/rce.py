"""Relative cross entropy: how much better a model predicts than a constant."""

import gin
import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.moments import FunctionOfMeans
from recap_tf.metrics.machinery.task_metric import value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class RCE(FunctionOfMeans):
    """Relative cross entropy in percent: 100 is perfect, 0 as good as a constant.

        RCE = 100 * (1 - mean CE(label, prediction) / CE(mean label, mean label))
        CE(y, p) = -y log(q + epsilon) - (1 - y) log(1 - q + epsilon)
        q        = p clipped to [epsilon, 1 - epsilon]

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,). Smoothing
    replaces a label y by y (1 - label_smoothing) + label_smoothing / 2, also in the
    mean label. NaN while a task has no positives or no negatives: no constant can be
    improved on there. Standard error: delta method on the means of CE and label.
    Source: normalized entropy, He et al. 2014 (ADKDD), eq. 1;
    RCE = 100 * (1 - normalized entropy).

    Args:
        label_smoothing: share of the label that is spread evenly over both classes;
            at least 0, less than 1.
        from_logits: the predictions are logits. Their cross entropy is exact, without
            clipping, so it can differ from that of the probabilities where these are
            below epsilon.
        epsilon: keeps the logarithms finite; in (0, 0.5).

    >>> from recap_tf.metrics.rce import RCE
    >>> rce = RCE()
    >>> rce.update_state([1, 0, 0, 0], [0.7, 0.1, 0.1, 0.1])
    >>> round(float(rce.result()), 2)
    70.09
    """

    default_name = "rce"
    values = 3  # label, 1 - label, cross entropy

    def __init__(
        self,
        tasks: int | None = None,
        label_smoothing: float = 0.0,
        from_logits: bool = False,
        epsilon: float = 1e-7,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("label_smoothing", label_smoothing, at_least=0, below=1)
        check_range("epsilon", epsilon, above=0, below=0.5)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_smoothing = label_smoothing
        self.from_logits = from_logits
        self.epsilon = epsilon

    def add_examples(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> None:
        values = self.example_values(labels, predictions, weights)
        # 1 - label too: its mean is 0 if and only if there was no negative.
        self.moments.add([labels, 1 - labels, *values], weights)

    def smooth(self, labels: tf.Tensor) -> tf.Tensor:
        """The labels, or their mean, after label smoothing."""
        return labels * (1 - self.label_smoothing) + self.label_smoothing / 2

    def example_values(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> list[tf.Tensor]:
        """What is averaged beside the labels, (batch, columns) each; first the CE."""
        labels = self.smooth(labels)
        if self.from_logits:
            return [tf.nn.sigmoid_cross_entropy_with_logits(labels, predictions)]
        return [self.cross_entropy(labels, predictions)]

    def cross_entropy(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """The cross entropy CE(y, p), elementwise."""
        return clipped_cross_entropy(labels, probabilities, self.epsilon)

    def entropy_ratio(self, label: tf.Tensor, mean_entropy: tf.Tensor) -> tf.Tensor:
        """The mean CE over that of the constant, from the mean label."""
        rate = self.smooth(label)
        return mean_entropy / self.cross_entropy(rate, rate)

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, negative, mean_entropy = tf.unstack(means)
        relative = 100 * (1 - self.entropy_ratio(label, mean_entropy))
        return value_where((label > 0) & (negative > 0), relative)


def clipped_cross_entropy(
    labels: tf.Tensor, probabilities: tf.Tensor, epsilon: float
) -> tf.Tensor:
    """The cross entropy of the docstring of `RCE`, elementwise."""
    # 1 - epsilon as float32 has it: the values of the field are computed in float32,
    # and a wrong prediction of exactly 1 weighs by this distance from 1.
    highest = float(np.float32(1 - epsilon))
    probabilities = tf.clip_by_value(probabilities, epsilon, highest)
    return -(
        labels * tf.math.log(probabilities + epsilon)
        + (1 - labels) * tf.math.log(1 - probabilities + epsilon)
    )
