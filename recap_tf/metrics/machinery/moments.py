"""Weighted means with their covariance, and functions of them: the delta method."""

from collections.abc import Sequence

import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.machinery.task_metric import (
    TaskMetric,
    plain_python,
    value_where,
)


class WeightedMoments(TaskMetric):
    """Weighted means of several values of an example, and how well they are known.

        weight_sum <- weight_sum + sum(w)
        mean_k     <- mean_k + sum(w * (y_k - mean_k)) / weight_sum
        cov_kl      = n / (n - 1) * sum(w^2 (y_k - mean_k) (y_l - mean_l)) / sum(w)^2

    Call: sequence of `values` tensors (batch, tasks), sample_weight; `result` is
    (values, tasks). The update adds small differences to the means instead of keeping
    sums, so nothing grows with the number of examples but the sums of weights; the
    second moments, weighted by w^2, are kept about their own mean. A value of weight 0
    changes nothing, even if it is NaN. n counts the examples of non-zero weight.
    Source: Welford 1962; West 1979 (weighted); merging: Chan et al. 1979; covariance of
    ratio means: Cochran 1977, Sampling Techniques, 6.4.

    Args:
        values: how many values an example has; at least 1.
    """

    default_name = "weighted_moments"

    def __init__(
        self,
        tasks: int | None = None,
        values: int = 1,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("values", values, at_least=1)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.values = values
        columns = () if tasks is None else (tasks,)
        shape = (values, *columns)
        self.means = self.add_state("means", shape)
        self.weight_sum = self.add_state("weight_sum")
        # float64 whatever the means are kept in: squares of float32 overflow it.
        self.count = self.add_state("count", dtype=tf.float64)
        self.square_sum = self.add_state("square_sum", dtype=tf.float64)
        self.square_means = self.add_state("square_means", shape, tf.float64)
        self.scatter = self.add_state("scatter", (values, *shape), tf.float64)

    @plain_python
    def update_state(
        self, values: Sequence[tf.Tensor], sample_weight: tf.Tensor | None = None
    ) -> None:
        named = {f"value_{k}": value for k, value in enumerate(values)}
        *columns, weights = self.inputs(sample_weight, **named)
        self.add(columns, weights)

    def add(self, values: Sequence[tf.Tensor], weights: tf.Tensor) -> None:
        """Takes in columns as `inputs` gives them, (batch, columns) each."""
        values = tf.stack(values)
        values = tf.where(weights != 0, values, tf.zeros_like(values))
        batch_sum = tf.reduce_sum(weights, axis=0)
        total = self.weight_sum + self.per_task(batch_sum)
        # Dividing the weights, not the sum, keeps values near the largest number of
        # the dtype from overflowing.
        share = tf.math.divide_no_nan(weights, total)
        mean = tf.reshape(self.means, [self.values, 1, self.columns])
        step = tf.reduce_sum((values - mean) * share, axis=1)
        self.means.assign_add(self.per_task(step))
        self.weight_sum.assign(total)
        counted = tf.reduce_sum(tf.cast(weights != 0, tf.float64), axis=0)
        self.count.assign_add(self.per_task(counted))
        self._add_squares(
            tf.cast(values, tf.float64), tf.cast(weights, tf.float64) ** 2
        )

    def _add_squares(self, values: tf.Tensor, squares: tf.Tensor) -> None:
        square_sum = tf.reduce_sum(squares, axis=0)
        weighted = tf.reduce_sum(values * squares, axis=1)
        means = tf.math.divide_no_nan(weighted, square_sum)
        off = values - means[:, tf.newaxis]
        scatter = tf.reduce_sum(off[:, tf.newaxis] * off * squares, axis=2)
        self._join_squares(*map(self.per_task, (square_sum, means, scatter)))

    def _join_squares(
        self, square_sum: tf.Tensor, means: tf.Tensor, scatter: tf.Tensor
    ) -> None:
        total = self.square_sum + square_sum
        share = tf.math.divide_no_nan(square_sum, total)
        apart = means - self.square_means
        between = apart[:, tf.newaxis] * apart * (self.square_sum * share)
        self.scatter.assign_add(scatter + between)
        self.square_means.assign_add(apart * share)
        self.square_sum.assign(total)

    def merge_one(self, metric: "WeightedMoments") -> None:
        total = self.weight_sum + metric.weight_sum
        share = tf.math.divide_no_nan(metric.weight_sum, total)
        self.means.assign_add((metric.means - self.means) * share)
        self.weight_sum.assign(total)
        self.count.assign_add(metric.count)
        self._join_squares(metric.square_sum, metric.square_means, metric.scatter)

    def result(self) -> tf.Tensor:
        return value_where(self.weight_sum > 0, self.means)

    def covariance(self) -> tf.Tensor:
        """The covariance of the means, float64 (values, values, tasks).

        It is NaN below two examples.
        """
        off = self.square_means - tf.cast(self.means, tf.float64)
        about_mean = self.scatter + off[:, tf.newaxis] * off * self.square_sum
        correction = self.count / (self.count - 1)
        weight_sum = tf.cast(self.weight_sum, tf.float64)
        covariance = correction * about_mean / weight_sum**2
        return value_where((self.count > 1) & (weight_sum > 0), covariance)

    def standard_error(self, gradient: tf.Tensor | None = None) -> tf.Tensor:
        """The error of each mean, or with `gradient` that of a function of the means.

        Args:
            gradient: derivatives of the function by the means, (values, tasks).

        Returns:
            float64 (values, tasks), or (tasks,) if a gradient is given.
        """
        covariance = self.covariance()
        if gradient is None:
            variances = [covariance[k, k] for k in range(self.values)]
            return tf.sqrt(tf.stack(variances))
        gradient = tf.cast(gradient, tf.float64)
        product = gradient[:, tf.newaxis] * gradient * covariance
        # Rounding may leave a variance of 0 a little below it.
        return tf.sqrt(tf.nn.relu(tf.reduce_sum(product, axis=[0, 1])))


class FunctionOfMeans(ExampleMetric):
    """A smooth function of a few weighted means, its error by the delta method.

        se^2 = g^T cov g,   g = d value / d means

    Subclasses say what the `value` of the means is, and in `add_examples` what is
    averaged, if it is something else than the labels and the predictions.
    """

    values = 2
    """How many values of an example are averaged."""

    def add_variables(self) -> None:
        super().add_variables()
        self.moments = WeightedMoments(self.tasks, self.values, dtype=self.dtype)

    def add_examples(self, *columns: tf.Tensor) -> None:
        *values, weights = columns
        self.moments.add(values, weights)

    @property
    def parts(self) -> list[TaskMetric]:
        return [self.moments]

    def value(self, means: tf.Tensor) -> tf.Tensor:
        """The value (tasks,) of means (values, tasks), each column by itself.

        It is NaN where there is none.
        """
        raise NotImplementedError

    def result(self) -> tf.Tensor:
        return self.value(tf.convert_to_tensor(self.moments.means))

    def standard_error(self) -> tf.Tensor:
        means = tf.convert_to_tensor(self.moments.means)
        with tf.GradientTape() as tape:
            tape.watch(means)
            value = self.value(means)
        error = self.moments.standard_error(tape.gradient(value, means))
        return value_where(~tf.math.is_nan(value), error)


def ratio_error(values: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The standard error of sum(w * y) / sum(w) over independent (w, y), float64.

    As `WeightedMoments` computes it, of values that are all there.

    Args:
        values: float64 (units,); what weighs 0 must be finite.
        weights: float64 (units,); a unit of weight 0 is not there.
    """
    total = tf.reduce_sum(weights)
    mean = tf.math.divide_no_nan(tf.reduce_sum(weights * values), total)
    count = tf.reduce_sum(tf.cast(weights != 0, tf.float64))
    squares = tf.reduce_sum((weights * (values - mean)) ** 2)
    error = tf.sqrt(squares * count / (count - 1)) / total
    return value_where((count > 1) & (total > 0), error)
