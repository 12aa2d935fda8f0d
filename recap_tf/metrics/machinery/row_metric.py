"""What the exact metrics share: they keep a row of every example until `result`."""

from collections.abc import Callable

import tensorflow as tf

from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.machinery.task_metric import plain_python


class RowMetric(ExampleMetric):
    """A metric that needs all examples at once.

    Its rows grow in room that doubles when it is full; growing and `result` need as
    much again for a moment. Subclasses make their variables with `add_rows`, list them
    in `row_variables`, and compute the value and error of one task in `of_task`.
    """

    def add_variables(self) -> None:
        super().add_variables()
        self.size = self.add_state("size", (), tf.int64)
        self.capacity = self.add_state("capacity", (), tf.int64)

    @property
    def row_variables(self) -> list[tf.Variable]:
        """The variables that hold a row of each example."""
        raise NotImplementedError

    def of_task(
        self, task: tf.Tensor, rows: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The value and standard error of one column, float64 scalars."""
        raise NotImplementedError

    def add_rows(
        self, name: str, dtype: tf.DType, per_task: bool = True
    ) -> tf.Variable:
        """Makes a variable of no rows yet: (examples, columns), or (examples,)."""
        # Not add_state: only a plain variable may change its shape.
        row = [self.columns] if per_task else []
        return tf.Variable(
            tf.zeros([0, *row], dtype), shape=[None, *row], trainable=False, name=name
        )

    def append(self, *rows: tf.Tensor) -> None:
        """Adds rows, one tensor for each of `row_variables`."""
        start = self.size.read_value()
        end = start + tf.shape(rows[0], tf.int64)[0]
        capacity = self.capacity.read_value()

        def grow():
            # Doubling moves an example at most twice on average, however many come.
            grown = tf.maximum(2 * capacity, end)
            for variable in self.row_variables:
                pads = [[0, grown - capacity]] + [[0, 0]] * (variable.shape.rank - 1)
                variable.assign(tf.pad(variable, pads))
            return grown

        self.capacity.assign(tf.cond(end > capacity, grow, lambda: capacity))
        # A scatter writes in place; assigning a slice would copy all the rows.
        places = tf.range(start, end)
        for variable, added in zip(self.row_variables, rows, strict=True):
            added = tf.cast(added, variable.dtype)
            variable.scatter_update(tf.IndexedSlices(added, places))
        self.size.assign(end)

    def rows(self) -> list[tf.Tensor]:
        """The rows so far, one tensor for each of `row_variables`."""
        return [variable[: self.size] for variable in self.row_variables]

    def by_task(self, compute: Callable, outputs: int) -> tuple[tf.Tensor, ...]:
        """Computes `compute(task, rows)` of every task: `outputs` float64 tensors."""
        rows = self.rows()
        # One task at a time: sorting needs several copies of what it sorts.
        return tf.map_fn(
            lambda task: compute(task, rows),
            tf.range(self.columns),
            parallel_iterations=1,
            fn_output_signature=(tf.float64,) * outputs,
        )

    def value_and_error(self) -> tuple[tf.Tensor, tf.Tensor]:
        value, error = self.by_task(self.of_task, 2)
        return self.per_task(tf.cast(value, self.dtype)), self.per_task(error)

    @plain_python
    def result(self) -> tf.Tensor:
        return self.value_and_error()[0]

    def standard_error(self) -> tf.Tensor:
        return self.value_and_error()[1]

    def merge_one(self, metric: "RowMetric") -> None:
        self.append(*metric.rows())

    def reset_state(self) -> None:
        for variable in self.row_variables:
            variable.assign(tf.zeros([0, *variable.shape[1:]], variable.dtype))
        self.size.assign(0)
        self.capacity.assign(0)
