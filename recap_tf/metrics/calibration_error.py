"""Expected calibration error over bins of equal mass."""

import math

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.score_metric import ScoreMetric
from recap_tf.metrics.machinery.task_metric import value_where
from recap_tf.metrics.machinery.tie_blocks import TieBlocks


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class CalibrationError(ScoreMetric):
    """How far predictions and labels are apart, bin by bin of the prediction.

        error = sum over bins of W_bin / W * |mean prediction - mean label|

    The examples, sorted by prediction, are cut into bins of equal weight (deciles).
    Examples of the same prediction are not told apart: where a cut falls among them,
    each goes to both sides by the same share, so the value does not depend on the order
    of examples, and the predictions may have fewer values than there are bins. Call:
    (labels, probabilities, weight), all (batch, tasks) -> (tasks,). NaN without
    examples or with a NaN prediction.

    Standard error: each bin's difference is taken as normal with its estimated mean and
    variance, given the cuts; its size then has the variance of a folded normal. (The
    delta method, blind to signs that change, is up to a third too large where the
    differences are near 0.) There the value itself is too large: a mean of sizes is
    never 0, whatever the model.

    Keeps 12 bytes per example and task (8 with dtype float32), as AUROC.
    Source: Naeini et al. 2015 (AAAI), with equal-mass bins as in Nguyen and O'Connor
    2015 (EMNLP).

    Args:
        bins: of equal weight, at least 1.
        label_threshold: labels above it are positives (1), the others negatives (0).
        dtype: in which the predictions are kept, as in AUROC.

    >>> from recap_tf.metrics.calibration_error import CalibrationError
    >>> error = CalibrationError(bins=2)
    >>> error.update_state([0, 0, 1, 0], [0.1, 0.1, 0.8, 0.8])  # off by 0.1 and 0.3
    >>> round(float(error.result()), 4)
    0.2
    """

    default_name = "calibration_error"

    def __init__(
        self,
        tasks: int | None = None,
        bins: int = 10,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("bins", bins, at_least=1)
        super().__init__(tasks, label_threshold, name, dtype)
        self.bins = bins

    def blocks(self, task: tf.Tensor, rows: list[tf.Tensor]) -> TieBlocks:
        # With an empty block at the end there is one to look at even without examples.
        *sums, positives, negatives = super().blocks(task, rows)
        padded = [tf.pad(values, [[0, 1]]) for values in sums]
        return TieBlocks(*padded, positives, negatives)

    def of_blocks(self, blocks: TieBlocks) -> tuple[tf.Tensor, tf.Tensor]:
        mass = blocks.positive + blocks.negative
        scores = tf.cast(blocks.scores, tf.float64)
        ends, edges = self._ends_and_edges(mass)
        weight = edges[-1] / self.bins
        gap = _between(edges, ends, mass * scores - blocks.positive) / weight
        # Sums of w^2, w^2 (p - y) and w^2 (p - y)^2 in the bins.
        powers = [
            _between(
                edges,
                ends,
                blocks.positive_squares * (scores - 1) ** power
                + blocks.negative_squares * scores**power,
            )
            for power in (0, 1, 2)
        ]
        squares = powers[2] - 2 * gap * powers[1] + gap**2 * powers[0]
        variance = _variance_of_size(gap, tf.sqrt(tf.nn.relu(squares)) / weight)
        examples = blocks.positives + blocks.negatives
        error = tf.sqrt(tf.reduce_sum(variance) * examples / (examples - 1)) / self.bins
        known = (edges[-1] > 0) & ~tf.reduce_any(tf.math.is_nan(scores))
        return (
            value_where(known, tf.reduce_mean(tf.abs(gap))),
            value_where(known & (examples > 1), error),
        )

    def _ends_and_edges(self, mass: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Where blocks (blocks + 1,) and bins (bins + 1,) end, from 0 to the mass."""
        ends = _cumulated(mass)
        shares = tf.range(self.bins + 1, dtype=tf.float64) / self.bins
        return ends, ends[-1] * shares


def _variance_of_size(mean: tf.Tensor, deviation: tf.Tensor) -> tf.Tensor:
    """The variance of |x|, x normal: that of the folded normal distribution."""
    ratio = tf.math.divide_no_nan(mean, deviation)
    folded = deviation * math.sqrt(2 / math.pi) * tf.exp(-(ratio**2) / 2)
    folded += mean * tf.math.erf(ratio / math.sqrt(2))
    variance = tf.nn.relu(mean**2 + deviation**2 - folded**2)
    return tf.where(deviation > 0, variance, tf.zeros_like(variance))


def _cumulated(values: tf.Tensor) -> tf.Tensor:
    return tf.pad(tf.cumsum(values), [[1, 0]])


def _between(cuts: tf.Tensor, ends: tf.Tensor, amounts: tf.Tensor) -> tf.Tensor:
    """How much of `amounts` lies between neighbouring cuts.

    Args:
        cuts: (c + 1,), rising.
        ends: (b + 1,), rising; piece i reaches from ends[i] to ends[i + 1].
        amounts: (b,); each is spread evenly over its piece.

    Returns:
        (c,).
    """
    piece = tf.searchsorted(ends, cuts, side="right") - 1
    piece = tf.clip_by_value(piece, 0, tf.size(amounts) - 1)
    start, width = tf.gather(ends, piece), tf.gather(ends[1:] - ends[:-1], piece)
    inside = tf.math.divide_no_nan(cuts - start, width)
    up_to = tf.gather(_cumulated(amounts), piece) + inside * tf.gather(amounts, piece)
    return up_to[1:] - up_to[:-1]
