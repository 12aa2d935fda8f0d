"""A weighted mean of values, and what the metrics that are one share."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.machinery.moments import WeightedMoments
from recap_tf.metrics.machinery.task_metric import plain_python


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class WeightedMean(WeightedMoments):
    """Mean of the values seen so far, weighted; NaN before any weight.

    Call: values (batch, tasks), sample_weight -> (tasks,). How it is accumulated and
    the standard error (NaN below two examples): see `WeightedMoments`.

    >>> from recap_tf.metrics.machinery.weighted_mean import WeightedMean
    >>> mean = WeightedMean()
    >>> mean.update_state([1.0, 3.0], sample_weight=[1.0, 3.0])
    >>> float(mean.result())
    2.5
    """

    default_name = "weighted_mean"

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = None,
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)

    @property
    def mean(self) -> tf.Tensor:
        """The mean of each task, (tasks,); 0 before any weight."""
        return self.means[0]

    @plain_python
    def update_state(
        self, values: tf.Tensor, sample_weight: tf.Tensor | None = None
    ) -> None:
        values, weights = self.inputs(sample_weight, values=values)
        self.add([values], weights)

    def result(self) -> tf.Tensor:
        return super().result()[0]

    def standard_error(self) -> tf.Tensor:
        return super().standard_error()[0]


class MeanMetric(ExampleMetric, WeightedMean):
    """A weighted mean over examples with labels and predictions.

    It is of the one thing that the metric `uses`, unless `add_examples` computes and
    adds something else.
    """

    def add_examples(self, *columns: tf.Tensor) -> None:
        *values, weights = columns
        self.add(values, weights)
