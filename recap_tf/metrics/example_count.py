"""How many examples, and how many positives, the other metrics of a task stand on."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.machinery.task_metric import value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ExampleCount(ExampleMetric):
    """Number of examples of non-zero weight.

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,); the predictions
    are not used. Counts say how far the other values can be trusted, so an example
    counts once however much it weighs: a weight only takes it in (not 0) or out (0).
    Standard error: the square root, as of a Poisson count; NaN if nothing was counted.

    >>> from recap_tf.metrics.example_count import ExampleCount
    >>> count = ExampleCount()
    >>> count.update_state([1, 0, 1], sample_weight=[5.0, 1.0, 0.0])
    >>> float(count.result())
    2.0
    """

    default_name = "example_count"
    uses = ("labels",)

    def add_variables(self) -> None:
        super().add_variables()
        self.count = self.add_state("count")

    def add_examples(self, labels: tf.Tensor, weights: tf.Tensor) -> None:
        counted = self.counted(labels)
        counted = tf.where(weights != 0, counted, tf.zeros_like(counted))
        counted = tf.reduce_sum(counted, axis=0)
        self.count.assign_add(self.per_task(counted))

    def counted(self, labels: tf.Tensor) -> tf.Tensor:
        """What each example adds to the count, like `labels`."""
        return tf.ones_like(labels)

    def merge_one(self, metric: "ExampleCount") -> None:
        self.count.assign_add(metric.count)

    def result(self) -> tf.Tensor:
        return tf.identity(self.count)

    def standard_error(self) -> tf.Tensor:
        count = tf.cast(self.count, tf.float64)
        return value_where(count > 0, tf.sqrt(count))


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PositiveCount(ExampleCount):
    """Sum of the labels of the examples of non-zero weight.

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,).

    >>> from recap_tf.metrics.example_count import PositiveCount
    >>> count = PositiveCount()
    >>> count.update_state([1, 0, 1], sample_weight=[5.0, 1.0, 0.0])
    >>> float(count.result())
    1.0
    """

    default_name = "positive_count"

    def counted(self, labels: tf.Tensor) -> tf.Tensor:
        return labels
