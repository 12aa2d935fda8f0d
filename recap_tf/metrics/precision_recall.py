"""Precision and recall of the decision "score above a threshold"."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.weighted_mean import MeanMetric


class _Decision(MeanMetric):
    """A mean over the examples of one class, or of one decision.

    Args:
        threshold: a score above it is decided as positive.
        label_threshold: a label above it is positive.
    """

    def __init__(
        self,
        tasks: int | None = None,
        threshold: float = 0.5,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.threshold = threshold
        self.label_threshold = label_threshold

    def add_examples(
        self, labels: tf.Tensor, predictions: tf.Tensor, weights: tf.Tensor
    ) -> None:
        positive = tf.cast(labels > self.label_threshold, labels.dtype)
        decided = tf.cast(predictions > self.threshold, labels.dtype)
        # A NaN is neither above nor below: it must show.
        decided = tf.where(tf.math.is_nan(predictions), predictions, decided)
        value, among = self.value_among(positive, decided)
        self.add([value], tf.math.multiply_no_nan(among, weights))

    def value_among(
        self, positive: tf.Tensor, decided: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What is averaged, and over which of the examples (1 or 0)."""
        raise NotImplementedError


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class Precision(_Decision):
    """Share of positives among the examples scored above a threshold.

        precision = sum(w * [y = 1] * [p > threshold]) / sum(w * [p > threshold])

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,). NaN if no score
    is above the threshold. Standard error: delta method for this ratio.

    Args:
        threshold: in the unit of the predictions; a score equal to it is below.
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.precision_recall import Precision
    >>> precision = Precision(threshold=0.3)
    >>> precision.update_state([1, 0, 0, 1], [0.9, 0.4, 0.1, 0.2])
    >>> float(precision.result())
    0.5
    """

    default_name = "precision"

    def value_among(
        self, positive: tf.Tensor, decided: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return positive, decided


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class Recall(_Decision):
    """Share of the positives that are scored above a threshold.

        recall = sum(w * [y = 1] * [p > threshold]) / sum(w * [y = 1])

    Call and arguments: as `Precision`. NaN without positives. Standard error: delta
    method for this ratio.

    >>> from recap_tf.metrics.precision_recall import Recall
    >>> recall = Recall(threshold=0.15)
    >>> recall.update_state([1, 0, 0, 1], [0.9, 0.4, 0.1, 0.2])
    >>> float(recall.result())
    1.0
    """

    default_name = "recall"

    def value_among(
        self, positive: tf.Tensor, decided: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return decided, positive
