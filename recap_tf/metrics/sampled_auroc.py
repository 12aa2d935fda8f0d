"""Area under the ROC curve estimated from random pairs of examples."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.task_metric import value_where
from recap_tf.metrics.machinery.weighted_mean import MeanMetric


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class SampledAUROC(MeanMetric):
    """AUROC estimated from random pairs of each batch; a tie counts half.

        batch value = mean over pairs of (1 if s+ > s-, 1/2 if s+ = s-, else 0)
        value       = sum(P_b * N_b * batch value) / sum(P_b * N_b)

    with P_b and N_b the weights of the positives and negatives of a batch; both sides
    of a pair are drawn by weight, with replacement. Call: (labels, predictions,
    weight), all (batch, tasks) -> (tasks,); keeps nothing but the mean, costs `pairs`
    comparisons per batch, and only compares examples of the same batch. A batch that
    lacks a class changes nothing. Standard error: batches are independent draws, which
    includes the chance of the drawing; NaN below two batches with both classes.

    Args:
        pairs: how many pairs are drawn from each batch, for each task; at least 1.
        seed: of the drawing; the same batches in the same order give the same value.
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.sampled_auroc import SampledAUROC
    >>> auroc = SampledAUROC()
    >>> auroc.update_state([0, 1, 0, 1], [0.1, 0.4, 0.5, 0.8])  # exactly 0.75
    >>> abs(float(auroc.result()) - 0.75) < 0.05
    True
    """

    default_name = "sampled_auroc"

    def __init__(
        self,
        tasks: int | None = None,
        pairs: int = 4096,
        seed: int = 0,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("pairs", pairs, at_least=1)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.pairs = pairs
        self.seed = seed
        self.label_threshold = label_threshold
        self.batches = self.add_state("batches", (), tf.int64)

    def add_examples(
        self, labels: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor
    ) -> None:
        positive = tf.where(labels > self.label_threshold, weights, 0.0)
        seed = tf.stack([tf.constant(self.seed, tf.int64), self.batches.read_value()])
        draws = tf.random.stateless_uniform(
            [2, self.columns, self.pairs], seed, dtype=tf.float64
        )
        of_positive, p = self._draw(scores, positive, draws[0])
        of_negative, n = self._draw(scores, weights - positive, draws[1])
        won = (tf.sign(of_positive - of_negative) + 1) / 2
        # Infinite scores of the same sign have no difference.
        won = tf.where(of_positive == of_negative, tf.cast(0.5, won.dtype), won)
        # Not left to chance whether a NaN shows.
        nan = tf.reduce_any(tf.math.is_nan(scores) & (weights != 0), axis=0)
        value = value_where(~nan, tf.reduce_mean(won, axis=1))
        self.add([value[tf.newaxis]], (p * n)[tf.newaxis])
        self.batches.assign_add(1)

    def _draw(
        self, scores: tf.Tensor, weights: tf.Tensor, draws: tf.Tensor
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Scores (columns, pairs) drawn by weight, and the sum of the weights."""
        up_to = tf.cumsum(tf.cast(tf.transpose(weights), tf.float64), axis=1)
        # Not the last of up_to: there may be no example at all.
        total = tf.reduce_max(tf.pad(up_to, [[0, 0], [1, 0]]), axis=1)
        # Right of the cut, an example of weight 0 is never the one.
        row = tf.searchsorted(up_to, draws * total[:, tf.newaxis], side="right")
        padded = tf.pad(tf.transpose(scores), [[0, 0], [0, 1]])
        drawn = tf.gather(padded, row, batch_dims=1)
        return drawn, tf.cast(total, weights.dtype)
