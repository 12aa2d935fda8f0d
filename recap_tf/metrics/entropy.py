"""Cross entropy beside that of a constant: how much better a model predicts."""

import gin
import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.log_loss import cross_entropy
from recap_tf.metrics.moments import FunctionOfMeans, WeightedMoments
from recap_tf.metrics.task_metric import TaskMetric, plain_python, value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class RCE(FunctionOfMeans):
    """Relative cross entropy in percent: 100 is perfect, 0 as good as a constant.

        RCE = 100 * (1 - mean CE(label, prediction) / CE(mean label, mean label))
        CE(y, p) = -y log(q + epsilon) - (1 - y) log(1 - q + epsilon)
        q        = p clipped to [epsilon, 1 - epsilon]

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks]. Smoothing
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
        epsilon: keeps the logarithms finite.
    """

    values = 3  # label, 1 - label, cross entropy

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
        values = self.example_values(labels, predictions, weights)
        # 1 - label too: its mean is 0 if and only if there was no negative.
        self.moments.add([labels, 1 - labels, *values], weights)

    def smooth(self, labels: tf.Tensor) -> tf.Tensor:
        return labels * (1 - self.label_smoothing) + self.label_smoothing / 2

    def example_values(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> list[tf.Tensor]:
        """What is averaged beside the labels, [batch, columns] each; first the CE."""
        labels = self.smooth(labels)
        if self.from_logits:
            return [tf.nn.sigmoid_cross_entropy_with_logits(labels, predictions)]
        return [self.cross_entropy(labels, predictions)]

    def cross_entropy(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        """CE(y, p), elementwise."""
        return clipped_cross_entropy(labels, probabilities, self.epsilon)

    def entropy_ratio(self, label: tf.Tensor, mean_entropy: tf.Tensor) -> tf.Tensor:
        """Mean CE over that of the constant, from the mean label."""
        rate = self.smooth(label)
        return mean_entropy / self.cross_entropy(rate, rate)

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, negative, mean_entropy = tf.unstack(means)
        relative = 100 * (1 - self.entropy_ratio(label, mean_entropy))
        return value_where((label > 0) & (negative > 0), relative)

    def get_config(self):
        return super().get_config() | {
            "label_smoothing": self.label_smoothing,
            "from_logits": self.from_logits,
            "epsilon": self.epsilon,
        }


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class NormalizedEntropy(RCE):
    """Mean cross entropy over that of the mean label: 0 is perfect, 1 a constant.

        NE = mean CE(label, prediction) / CE(mean label, mean label)
        CE(y, p) = -y log(q) - (1 - y) log(1 - q)
        q        = p clipped to [epsilon, 1 - epsilon]

    Call, arguments, NaN and standard error: as RCE, which is 100 * (1 - NE) up to the
    epsilon that RCE adds inside its logarithms. Source: He et al. 2014 (ADKDD), eq. 1.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_smoothing: float = 0.0,
        from_logits: bool = False,
        epsilon: float = 1e-7,
        name: str | None = "normalized_entropy",
        dtype: str = "float64",
    ):
        super().__init__(tasks, label_smoothing, from_logits, epsilon, name, dtype)

    def cross_entropy(self, labels: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
        return cross_entropy(labels, probabilities, self.epsilon)

    def value(self, means: tf.Tensor) -> tf.Tensor:
        label, negative, mean_entropy = tf.unstack(means)
        ratio = self.entropy_ratio(label, mean_entropy)
        return value_where((label > 0) & (negative > 0), ratio)


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
    """

    values = 5  # those of RCE, then the prediction and d CE / d log ratio

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
        # Before the other moments, which hold what is computed from these.
        self.level = WeightedMoments(tasks, 2, dtype=dtype)

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
