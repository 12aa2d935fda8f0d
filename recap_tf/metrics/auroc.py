"""Exact area under the ROC curve of a stream of batches."""

import sys
import warnings

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_choice
from recap_tf.metrics.machinery.score_metric import ScoreMetric
from recap_tf.metrics.machinery.task_metric import plain_python, value_where
from recap_tf.metrics.machinery.tie_blocks import TieBlocks, tie_blocks


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class AUROC(ScoreMetric):
    """Chance that a positive is ranked above a negative; a tie counts half.

        AUROC = U / (P * N)
        U = sum over pairs of w+ * w- * (1 if s+ > s-, 1/2 if s+ = s-, else 0)

    with P and N the weights of all positives and negatives (Mann and Whitney 1947).
    Exact: every score is kept and sorted, there are no thresholds, so scores of any
    size will do, probabilities near 0 and logits alike. Call: (labels, predictions,
    weight), all (batch, tasks) -> (tasks,). NaN if a task has no positives or no
    negatives, or a NaN among its scores. Standard error: see `area_and_error`.

    Keeps 12 bytes per example and task (8 with dtype float32) in room that doubles when
    it is full; growing needs as much again for a moment, `result` some 60 bytes per
    example, one task after the other: 3.7 GB for 1e7 examples of 10 tasks in float32.
    Rows whose weights are all 0 are not kept.

    Args:
        label_threshold: labels above it are positives.
        missing_class: "warn" or "error" in `result` when a task has no value. Inside a
            tf.function the warning is printed to stderr.
        dtype: in which the scores are kept. float32 is exact for scores that come in
            float32; it makes ties of close float64 ones.

    >>> from recap_tf.metrics.auroc import AUROC
    >>> auroc = AUROC()
    >>> auroc.update_state([0, 1, 0, 1], [0.1, 0.4, 0.5, 0.8])
    >>> float(auroc.result())
    0.75
    """

    default_name = "auroc"

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        missing_class: str = "warn",
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_choice("missing_class", missing_class, ["warn", "error"])
        super().__init__(tasks, label_threshold, name, dtype)
        self.missing_class = missing_class

    def of_blocks(self, blocks: TieBlocks) -> tuple[tf.Tensor, tf.Tensor]:
        return area_and_error(blocks)

    @plain_python
    def result(self) -> tf.Tensor:
        _, signed_weights = self.rows()
        missing = ~(
            tf.reduce_any(signed_weights > 0, axis=0)
            & tf.reduce_any(signed_weights < 0, axis=0)
        )
        with tf.control_dependencies(self._report(missing)):
            return tf.identity(super().result())

    def _report(self, missing: tf.Tensor) -> list[tf.Operation]:
        """Warns or fails; returns the operations that do so in a tf.function."""
        message = f"{self.name} has no value: no positive or no negative example"
        message += " in column" if self.tasks else ""
        any_missing = tf.reduce_any(missing)
        columns = tf.where(missing)[:, 0] if self.tasks else ""
        if tf.executing_eagerly():
            if any_missing:
                message += f" {columns.numpy().tolist()}" if self.tasks else ""
                if self.missing_class == "error":
                    raise ValueError(message)
                warnings.warn(message, RuntimeWarning, stacklevel=2)
            return []
        if self.missing_class == "error":
            return [tf.debugging.Assert(~any_missing, [message, columns])]

        def warn():
            return tf.print(message, columns, output_stream=sys.stderr)

        return [tf.cond(any_missing, warn, tf.no_op)]


def area_and_error(blocks: TieBlocks) -> tuple[tf.Tensor, tf.Tensor]:
    """Area under the ROC curve and its standard error, two float64 scalars.

        area = mean over positives of V10 = mean over negatives of V01
        se^2 = P' / (P' - 1) * sum over positives of w^2 (V10 - area)^2 / P^2
             + N' / (N' - 1) * sum over negatives of w^2 (V01 - area)^2 / N^2

    with V10 the share of negatives below a positive and V01 that of positives above a
    negative (ties half), P and N the weights of the classes, P' and N' their numbers
    of examples. DeLong, DeLong and Clarke-Pearson 1988, with weighted means. The area
    is NaN without both classes or with a NaN score, the error also if one of the
    classes has a single example.
    """
    positive, negative = blocks.positive, blocks.negative
    p, n = tf.reduce_sum(positive), tf.reduce_sum(negative)
    below = tf.cumsum(negative, exclusive=True) + negative / 2
    above = tf.cumsum(positive, exclusive=True, reverse=True) + positive / 2
    placed_10 = tf.math.divide_no_nan(below, n)
    placed_01 = tf.math.divide_no_nan(above, p)
    area = tf.math.divide_no_nan(tf.reduce_sum(positive * placed_10), p)
    known = (p > 0) & (n > 0) & ~tf.reduce_any(tf.math.is_nan(blocks.scores))

    def variance(squares, placed, weight, examples):
        scatter = tf.reduce_sum(squares * (placed - area) ** 2) / weight**2
        return scatter * examples / (examples - 1)

    error = tf.sqrt(
        variance(blocks.positive_squares, placed_10, p, blocks.positives)
        + variance(blocks.negative_squares, placed_01, n, blocks.negatives)
    )
    both = known & (blocks.positives > 1) & (blocks.negatives > 1)
    return value_where(known, area), value_where(both, error)


def weighted_auroc(
    scores: tf.Tensor, signed_weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The AUROC of one list, and whether it lacks a class.

    Args:
        scores: (examples,).
        signed_weights: (examples,); weight of a positive, minus weight of a negative.

    Returns:
        Two scalars: the area (NaN if a class is missing or a score is NaN), and
        True if a class is missing.
    """
    blocks = tie_blocks(scores, signed_weights)
    area, _ = area_and_error(blocks)
    return area, (blocks.positives == 0) | (blocks.negatives == 0)
