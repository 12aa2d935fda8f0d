"""Exact area under the precision-recall curve of a stream of batches."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.score_metric import ScoreMetric
from recap_tf.metrics.machinery.task_metric import value_where
from recap_tf.metrics.machinery.tie_blocks import TieBlocks


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class AveragePrecision(ScoreMetric):
    """Area under the precision-recall curve: the mean precision at the positives.

        AP = sum over positives of w * precision(s) / sum over positives of w
        precision(s) = weight of positives / weight of all, among scores >= s

    the same as the step-wise sum over thresholds of (recall gained) * precision; ties
    are one threshold. A constant score has the mean label. Exact, as AUROC. Call:
    (labels, predictions, weight), all (batch, tasks) -> (tasks,). NaN without positives
    or with a NaN score.

    Standard error: the infinitesimal jackknife,
    se^2 = n / (n - 1) * sum(w^2 (d AP / d w)^2) over the examples, in closed form;
    NaN below two positives.

    Keeps 12 bytes per example and task (8 with dtype float32), as AUROC.

    Args:
        label_threshold: labels above it are positives.
        dtype: in which the scores are kept, as in AUROC.

    >>> from recap_tf.metrics.average_precision import AveragePrecision
    >>> precision = AveragePrecision()
    >>> precision.update_state([1, 0, 0, 1], [0.9, 0.4, 0.1, 0.2])
    >>> round(float(precision.result()), 4)  # of 1 and 2 / 3
    0.8333
    """

    default_name = "average_precision"

    def of_blocks(self, blocks: TieBlocks) -> tuple[tf.Tensor, tf.Tensor]:
        positive = blocks.positive
        p = tf.reduce_sum(positive)
        hits = tf.cumsum(positive, reverse=True)
        misses = tf.cumsum(blocks.negative, reverse=True)
        precision = tf.math.divide_no_nan(hits, hits + misses)
        value = tf.reduce_sum(positive * precision) / p
        # An example changes the precision at every positive that is not above it.
        share = tf.math.divide_no_nan(positive, (hits + misses) ** 2)
        of_positive = precision - value + tf.cumsum(share * misses)
        of_negative = -tf.cumsum(share * hits)
        squares = tf.reduce_sum(
            blocks.positive_squares * of_positive**2
            + blocks.negative_squares * of_negative**2
        )
        examples = blocks.positives + blocks.negatives
        error = tf.sqrt(squares * examples / (examples - 1)) / p
        known = (p > 0) & ~tf.reduce_any(tf.math.is_nan(blocks.scores))
        return (
            value_where(known, value),
            value_where(known & (blocks.positives > 1), error),
        )
