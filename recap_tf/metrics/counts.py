"""How many examples, and how many positives, the other metrics of a task stand on."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.task_metric import TaskMetric, plain_python, value_where


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ExampleCount(TaskMetric):
    """Number of examples of non-zero weight.

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks]; the predictions
    are not used. Counts say how far the other values can be trusted, so an example
    counts once however much it weighs: a weight only takes it in (not 0) or out (0).
    Standard error: the square root, as of a Poisson count; NaN if nothing was counted.
    """

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "example_count",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.count = self.add_state("count")

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor,
        predictions: tf.Tensor | None = None,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        labels, weights = self.inputs(sample_weight, labels=labels)
        counted = self.counted(labels)
        counted = tf.where(weights != 0, counted, tf.zeros_like(counted))
        counted = tf.reduce_sum(counted, axis=0)
        self.count.assign_add(self.per_task(counted))

    def counted(self, labels: tf.Tensor) -> tf.Tensor:
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

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks].
    """

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = "positive_count",
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)

    def counted(self, labels: tf.Tensor) -> tf.Tensor:
        return labels
