"""What the metrics of a multi-task model share: one object serves all tasks.

`update_state` takes columns (batch, tasks) and `result` returns (tasks,); made with
`tasks=None` a metric takes values of any shape and returns one number over all of
them. A stratum is a `sample_weight` that is 0 outside of it. Where there is nothing to
report (no examples, a class missing) the value is NaN.

The state is kept in float64 on the host: in float32 a sum of weights stops growing at
2**24 examples of weight 1, and the columns of a batch are too small for the wider type
to cost anything. Running means of replicas do not add up, so the metrics are updated
outside of `strategy.run`, with the values of all replicas put together.

`standard_error` says how far `result` may be off because the examples are a sample:
what would come out of drawing as many examples again and again from where these came
from, each drawn with its weight. To first order that is

    se^2 = n / (n - 1) * sum over examples of (w * d value / d w)^2

for each of our metrics (the delta method; for the area under the ROC curve it is DeLong
1988; in general the infinitesimal jackknife, Efron 1982, ch. 6). No metric assumes that
weights stand for repeated examples. What comes in groups (users, requests, lists) is
drawn by group.
"""

import inspect
from collections.abc import Iterable

import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range

# Keras converts `update_state` and `result` with autograph. Ours have no Python control
# flow to convert, and an error from converted code is not one line any more.
plain_python = tf.autograph.experimental.do_not_convert


class TaskMetric(keras.metrics.Metric):
    """A metric with one value per task, or a single one.

    What it is updated with, its subclasses say: `ExampleMetric` for labels and
    predictions, `WeightedMoments` for plain values.

    Args:
        tasks: how many columns the inputs have; None for one value over everything.
        name: in messages and logs; `default_name` if none is given.
        dtype: in which the state is kept and computed.
    """

    default_name: str | None = None
    """The name of a metric that was given none."""

    def __init__(
        self,
        tasks: int | None = None,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("tasks", tasks, at_least=1, none="one value over everything")
        super().__init__(name=self.default_name if name is None else name, dtype=dtype)
        self.tasks = tasks
        self.add_variables()

    def add_variables(self) -> None:
        """Makes the state that depends on `tasks` and `dtype` alone."""

    def standard_error(self) -> tf.Tensor:
        """The error of `result`, float64 (tasks,); NaN where there is none.

        What it means is said at the top of the module.
        """
        raise NotImplementedError(f"{type(self).__name__} has no standard_error.")

    def value_and_error(self) -> tuple[tf.Tensor, tf.Tensor]:
        """`result` and `standard_error`, which together may cost no more than one."""
        return self.result(), self.standard_error()

    @property
    def columns(self) -> int:
        """How many values the metric has: the last axis of what it computes."""
        return self.tasks or 1

    def per_task(self, values: tf.Tensor) -> tf.Tensor:
        """Values (..., columns) as the user sees them: (...) if `tasks` is None."""
        return values[..., 0] if self.tasks is None else values

    @property
    def parts(self) -> list["TaskMetric"]:
        """The metrics this one is computed from; merging merges them one by one."""
        return []

    def add_state(
        self,
        name: str,
        shape: tuple[int, ...] | None = None,
        dtype: tf.DType | None = None,
    ) -> tf.Variable:
        """Makes a variable of zeros; without `shape` (tasks,), or a scalar."""
        if shape is None:
            shape = () if self.tasks is None else (self.tasks,)
        # Keras's own choice for metrics, a state per replica and their sum when read,
        # is wrong for means and cannot be assigned from outside the replicas.
        return self.add_weight(
            name,
            shape=shape,
            dtype=dtype,
            initializer="zeros",
            synchronization=tf.VariableSynchronization.ON_WRITE,
            aggregation=tf.VariableAggregation.NONE,
        )

    def inputs(
        self, sample_weight: tf.Tensor | None, **values: tf.Tensor
    ) -> list[tf.Tensor]:
        """Checks a batch: each of `values`, then the weights, as columns of one dtype.

        Args:
            sample_weight: like the first of `values`, or (batch,), or a scalar, or
                None for ones.
            **values: (batch, tasks); of any shape if `tasks` is None.

        Returns:
            Tensors (batch, tasks), or (values, 1) if `tasks` is None.

        Raises:
            ValueError: their shapes do not fit, or this is one replica of several.
        """
        context = tf.distribute.get_replica_context()
        if context is not None and context.num_replicas_in_sync > 1:
            raise ValueError(
                f"{self.name} was updated inside strategy.run on one of "
                f"{context.num_replicas_in_sync} replicas. Update it outside, with "
                "the values of all replicas."
            )
        columns = [self._columns(name, value) for name, value in values.items()]
        # Checked here because one row would be broadcast to many without a word.
        if not all(c.shape.is_compatible_with(columns[0].shape) for c in columns):
            shapes = ", ".join(
                f"{n} {tf.convert_to_tensor(v).shape}" for n, v in values.items()
            )
            raise ValueError(
                f"The inputs of {self.name} must have the same shape. "
                f"Received: {shapes}"
            )
        weighted = tf.convert_to_tensor(next(iter(values.values())))
        if sample_weight is None:
            return [*columns, tf.ones_like(columns[0])]
        weight = tf.convert_to_tensor(sample_weight)
        if weight.shape.rank == 1 and weighted.shape.rank == 2:
            weight = weight[:, tf.newaxis]
        weight = tf.broadcast_to(weight, tf.shape(weighted))
        return [*columns, self._columns("sample_weight", weight)]

    def _columns(self, name: str, values: tf.Tensor) -> tf.Tensor:
        values = tf.cast(values, self.dtype)
        if self.tasks is None:
            return tf.reshape(values, [-1, 1])
        if not values.shape.is_compatible_with([None, self.tasks]):
            raise ValueError(
                f"{name} of {self.name} must have the shape (batch, {self.tasks}). "
                f"Received: {values.shape}"
            )
        return values

    def merge_state(self, metrics: Iterable["TaskMetric"]) -> None:
        """Takes in what other metrics of the same kind have seen; order is free.

        Raises:
            ValueError: one of them has another class or other settings.
        """
        for metric in metrics:
            self._check_same_kind(metric)
            self.merge_one(metric)

    def _check_same_kind(self, metric: "TaskMetric") -> None:
        kind, other_kind = type(self).__name__, type(metric).__name__
        if type(metric) is not type(self):
            raise ValueError(
                f"Only {kind} can be merged into {self.name}. Received: {other_kind}"
            )
        config, other = self.get_config(), metric.get_config()
        different = [k for k in config if k != "name" and config[k] != other[k]]
        if different:
            expected, received = (
                ", ".join(f"{key}={settings[key]}" for key in different)
                for settings in (config, other)
            )
            raise ValueError(
                f"Only {kind} with {expected} can be merged into {self.name}. "
                f"Received: {kind} with {received}"
            )

    def merge_one(self, metric: "TaskMetric") -> None:
        """Takes in what another metric of the same kind has seen."""
        for part, other in zip(self.parts, metric.parts, strict=True):
            part.merge_one(other)

    def reset_state(self) -> None:
        for variable in self.variables:
            variable.assign(tf.zeros_like(variable))

    def get_config(self):
        """The settings: every parameter is an attribute of the same name."""
        return super().get_config() | {k: getattr(self, k) for k in self._parameters()}

    @classmethod
    def _parameters(cls) -> list[str]:
        """The parameters of the constructor, but those that Keras knows."""
        names = []
        for base in cls.__mro__:
            if "__init__" not in vars(base):
                continue
            parameters = inspect.signature(base.__init__).parameters.values()
            names += [p.name for p in parameters if p.kind is not p.VAR_KEYWORD]
            if all(p.kind is not p.VAR_KEYWORD for p in parameters):
                break
        return [n for n in dict.fromkeys(names) if n not in ("self", "name", "dtype")]


def value_where(known: tf.Tensor, value: tf.Tensor) -> tf.Tensor:
    """`value` where `known`, else NaN."""
    return tf.where(known, value, tf.constant(float("nan"), value.dtype))
