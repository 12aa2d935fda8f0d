"""How every metric of labels and predictions is updated with a batch."""

import tensorflow as tf

from recap_tf.metrics.machinery.task_metric import TaskMetric, plain_python


class ExampleMetric(TaskMetric):
    """A metric of examples with labels and predictions.

    `update_state` checks a batch and brings it into columns; a subclass takes these in
    in `add_examples`.
    """

    uses: tuple[str, ...] = ("labels", "predictions")
    """Which of the two `add_examples` gets, in this order; the other may be None."""
    needs_groups = False
    """Whether it needs to know which group (user, request) an example is of."""

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor | None,
        predictions: tf.Tensor | None = None,
        sample_weight: tf.Tensor | None = None,
        groups: tf.Tensor | None = None,
    ) -> None:
        """Takes in a batch.

        Args:
            labels: (batch, tasks); of any shape if `tasks` is None.
            predictions: of the same shape.
            sample_weight: of the same shape, or (batch,), or a scalar, or None for
                ones.
            groups: integers (batch,), equal for the examples of one group. Metrics
                that do not need groups do not look at them.

        Raises:
            ValueError: something is missing, or the shapes do not fit.
        """
        given = {"labels": labels, "predictions": predictions}
        used = {name: given[name] for name in self.uses}
        for name, values in used.items():
            if values is None:
                raise ValueError(f"{self.name} needs {name}. Received: None")
        columns = self.inputs(sample_weight, **used)
        if self.needs_groups:
            shape = tf.convert_to_tensor(labels).shape
            columns.append(self._group_of_rows(groups, shape, columns[0]))
        self.add_examples(*columns)

    def add_examples(self, *columns: tf.Tensor) -> None:
        """Takes in columns: what the metric `uses`, the weights, and its groups.

        Args:
            *columns: (batch, columns) each, of the metric's dtype. A metric that needs
                groups gets them last, int64 (batch,).
        """
        raise NotImplementedError

    def _group_of_rows(
        self, groups: tf.Tensor | None, shape: tf.TensorShape, labels: tf.Tensor
    ) -> tf.Tensor:
        """The group of every row of the columns, int64 (rows,)."""
        if groups is None:
            raise ValueError(
                f"{self.name} needs the group of each example: "
                "update_state(..., groups=...). Received: groups=None"
            )
        groups = tf.convert_to_tensor(groups)
        if not groups.dtype.is_integer or not groups.shape.is_compatible_with(
            shape[:1]
        ):
            raise ValueError(
                f"groups of {self.name} must be integers of the shape (batch,) = "
                f"{shape[:1]}. Received: {groups.dtype.name} of shape {groups.shape}"
            )
        if self.tasks is None:
            # Each example has as many rows as it has values.
            repeats = tf.size(labels) // tf.maximum(tf.size(groups), 1)
            groups = tf.repeat(groups, repeats)
        return tf.cast(groups, tf.int64)
