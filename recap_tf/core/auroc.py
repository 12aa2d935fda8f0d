"""Exact area under the ROC curve of a stream of batches."""

import sys
import warnings

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.task_metric import TaskMetric, plain_python

_MISSING_CLASS = ("warn", "error")


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class AUROC(TaskMetric):
    """Chance that a positive is ranked above a negative; a tie counts half.

        AUROC = U / (P * N)
        U = sum over pairs of w+ * w- * (1 if s+ > s-, 1/2 if s+ = s-, else 0)

    with P and N the weights of all positives and negatives (Mann and Whitney 1947).
    Exact: every score is kept and sorted, there are no thresholds, so scores of any
    size will do, probabilities near 0 and logits alike. Call: (labels, predictions,
    weight), all [batch, tasks] -> [tasks]. NaN if a task has no positives or no
    negatives, or a NaN among its scores.

    Keeps 12 bytes per example and task (8 with dtype float32) in room that doubles when
    it is full; growing and `result` need as much again for a moment. Rows whose weights
    are all 0 are not kept.

    Args:
        label_threshold: labels above it are positives.
        missing_class: "warn" or "error" in `result` when a task has no value. Inside a
            tf.function the warning is printed to stderr.
        dtype: in which the scores are kept. float32 is exact for scores that come in
            float32; it makes ties of close float64 ones.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        missing_class: str = "warn",
        name: str | None = "auroc",
        dtype: str = "float64",
    ):
        if missing_class not in _MISSING_CLASS:
            raise ValueError(
                f"missing_class must be one of {', '.join(_MISSING_CLASS)}. "
                f"Received: {missing_class!r}"
            )
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_threshold = label_threshold
        self.missing_class = missing_class
        self.size = self.add_state("size", (), tf.int64)
        self.capacity = self.add_state("capacity", (), tf.int64)
        self.scores = self._add_rows("scores", self.dtype)
        # Positive for a positive, negative for a negative: half the memory of a label
        # beside each weight. A weight needs no more than float32.
        self.signed_weights = self._add_rows("signed_weights", tf.float32)

    def _add_rows(self, name: str, dtype: tf.DType) -> tf.Variable:
        # Not add_state: only a plain variable may change its shape.
        columns = self.tasks or 1
        return tf.Variable(
            tf.zeros([0, columns], dtype),
            shape=[None, columns],
            trainable=False,
            name=name,
        )

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor,
        predictions: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        labels, scores, weights = self.inputs(
            sample_weight, labels=labels, predictions=predictions
        )
        positive = labels > self.label_threshold
        weighted = weights != 0
        # A NaN without weight must not disturb the sorting of the others.
        scores = tf.where(weighted, scores, tf.zeros_like(scores))
        signed = tf.cast(tf.where(positive, weights, -weights), tf.float32)
        kept = tf.reduce_any(weighted, axis=1)
        self._append(tf.boolean_mask(scores, kept), tf.boolean_mask(signed, kept))

    def _append(self, scores: tf.Tensor, signed_weights: tf.Tensor) -> None:
        start = self.size.read_value()
        end = start + tf.shape(scores, tf.int64)[0]
        capacity = self.capacity.read_value()

        def grow():
            # Doubling moves an example at most twice on average, however many come.
            grown = tf.maximum(2 * capacity, end)
            for rows in (self.scores, self.signed_weights):
                rows.assign(tf.pad(rows, [[0, grown - capacity], [0, 0]]))
            return grown

        self.capacity.assign(tf.cond(end > capacity, grow, lambda: capacity))
        # A scatter writes in place; assigning a slice would copy all the rows.
        places = tf.range(start, end)
        self.scores.scatter_update(tf.IndexedSlices(scores, places))
        self.signed_weights.scatter_update(tf.IndexedSlices(signed_weights, places))
        self.size.assign(end)

    def merge_one(self, metric: "AUROC") -> None:
        self._append(*metric.rows())

    def rows(self) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores and signed weights [examples, tasks] so far."""
        return self.scores[: self.size], self.signed_weights[: self.size]

    @plain_python
    def result(self) -> tf.Tensor:
        scores, signed_weights = self.rows()

        # One task at a time: sorting needs several copies of what it sorts.
        def of_task(task: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            return weighted_auroc(scores[:, task], signed_weights[:, task])

        value, missing = tf.map_fn(
            of_task,
            tf.range(self.tasks or 1),
            parallel_iterations=1,
            fn_output_signature=(tf.float64, tf.bool),
        )
        with tf.control_dependencies(self._report(missing)):
            value = tf.cast(value, self.dtype)
            return value[0] if self.tasks is None else value

    def _report(self, missing: tf.Tensor) -> list[tf.Operation]:
        """Warns or fails; returns the operations that do so in a tf.function."""
        message = f"{self.name} has no value: no positive or no negative example"
        message += " in column" if self.tasks else ""
        found = tf.reduce_any(missing)
        columns = tf.where(missing)[:, 0] if self.tasks else ""
        if tf.executing_eagerly():
            if found:
                message += f" {columns.numpy().tolist()}" if self.tasks else ""
                if self.missing_class == "error":
                    raise ValueError(message)
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            return []
        if self.missing_class == "error":
            return [tf.debugging.Assert(~found, [message, columns])]

        def warn():
            return tf.print(message, columns, output_stream=sys.stderr)

        return [tf.cond(found, warn, tf.no_op)]

    def reset_state(self) -> None:
        for rows in (self.scores, self.signed_weights):
            rows.assign(tf.zeros([0, self.tasks or 1], rows.dtype))
        self.size.assign(0)
        self.capacity.assign(0)

    def get_config(self):
        return super().get_config() | {
            "label_threshold": self.label_threshold,
            "missing_class": self.missing_class,
        }


def weighted_auroc(
    scores: tf.Tensor, signed_weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """AUROC of one list, and whether it lacks a class.

    Args:
        scores: [examples].
        signed_weights: [examples]; weight of a positive, minus weight of a negative.

    Returns:
        Two scalars: the area (NaN if a class is missing or a score is NaN), and
        True if a class is missing.
    """
    order = tf.argsort(scores)
    ordered = tf.gather(scores, order)
    weights = tf.cast(tf.gather(signed_weights, order), tf.float64)
    previous = tf.concat([ordered[:1], ordered[:-1]], axis=0)
    # Equal scores form one group, so a pair within a group is a tie.
    group = tf.cumsum(tf.cast(ordered != previous, tf.int32))
    positive = tf.math.segment_sum(tf.nn.relu(weights), group)
    negative = tf.math.segment_sum(tf.nn.relu(-weights), group)
    below = tf.cumsum(negative, exclusive=True)
    pairs = tf.reduce_sum(positive) * tf.reduce_sum(negative)
    u = tf.reduce_sum(positive * (below + negative / 2))
    nan = tf.constant(float("nan"), tf.float64)
    valid = (pairs > 0) & ~tf.reduce_any(tf.math.is_nan(scores))
    return tf.where(valid, tf.math.divide_no_nan(u, pairs), nan), pairs == 0
