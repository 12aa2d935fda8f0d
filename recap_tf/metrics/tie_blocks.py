"""Examples of two classes put together by score: all that curves are computed from."""

from typing import NamedTuple

import tensorflow as tf

from recap_tf.metrics.kept_rows import RowMetric
from recap_tf.metrics.task_metric import plain_python


class TieBlocks(NamedTuple):
    """Sums over the examples of equal score; blocks in order of rising score.

    A curve must not depend on how ties happen to be ordered, so it is made of blocks.
    """

    scores: tf.Tensor
    """[blocks]."""
    positive: tf.Tensor
    """Weight of the positives [blocks]; all sums are float64."""
    negative: tf.Tensor
    positive_squares: tf.Tensor
    """Squared weights of the positives [blocks], for standard errors."""
    negative_squares: tf.Tensor
    positives: tf.Tensor
    """How many positives have a weight, a scalar."""
    negatives: tf.Tensor


def tie_blocks(scores: tf.Tensor, signed_weights: tf.Tensor) -> TieBlocks:
    """Sorts and sums one list.

    Args:
        scores: [examples].
        signed_weights: [examples]; weight of a positive, minus weight of a negative.
    """
    order = tf.argsort(scores)
    ordered = tf.gather(scores, order)
    weights = tf.cast(tf.gather(signed_weights, order), tf.float64)
    starts = block_starts(ordered)
    block = tf.cumsum(tf.cast(starts, tf.int32)) - 1
    positive, negative = tf.nn.relu(weights), tf.nn.relu(-weights)

    def total(values: tf.Tensor) -> tf.Tensor:
        return tf.math.segment_sum(values, block)

    return TieBlocks(
        tf.boolean_mask(ordered, starts),
        total(positive),
        total(negative),
        total(positive**2),
        total(negative**2),
        tf.math.count_nonzero(positive, dtype=tf.float64),
        tf.math.count_nonzero(negative, dtype=tf.float64),
    )


def block_starts(*ordered: tf.Tensor) -> tf.Tensor:
    """True at the first row of sorted lists [n] and where one of them changes."""
    starts = tf.zeros_like(ordered[0][1:], tf.bool)
    for values in ordered:
        starts |= values[1:] != values[:-1]
    return tf.concat([tf.ones_like(ordered[0][:1], tf.bool), starts], axis=0)


class ScoreMetric(RowMetric):
    """An exact metric of scores and two classes.

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks]. Keeps 12 bytes
    per example and task (8 with dtype float32). Rows whose weights are all 0 are not
    kept. `of_blocks` computes the value.

    Args:
        label_threshold: labels above it are positives.
        dtype: in which the scores are kept. float32 is exact for scores that come in
            float32; it makes ties of close float64 ones.
    """

    def __init__(
        self, tasks: int | None, label_threshold: float, name: str | None, dtype: str
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_threshold = label_threshold
        self.scores = self.add_rows("scores", self.dtype)
        # Positive for a positive, negative for a negative: half the memory of a label
        # beside each weight. A weight needs no more than float32.
        self.signed_weights = self.add_rows("signed_weights", tf.float32)

    @property
    def row_variables(self) -> list[tf.Variable]:
        return [self.scores, self.signed_weights]

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
        signed = tf.where(positive, weights, -weights)
        kept = tf.reduce_any(weighted, axis=1)
        self.append(tf.boolean_mask(scores, kept), tf.boolean_mask(signed, kept))

    def blocks(self, task: tf.Tensor, rows: list[tf.Tensor]) -> TieBlocks:
        scores, signed_weights = rows
        return tie_blocks(scores[:, task], signed_weights[:, task])

    def of_blocks(self, blocks: TieBlocks) -> tuple[tf.Tensor, tf.Tensor]:
        """Value and standard error of one task, float64 scalars."""
        raise NotImplementedError

    def of_task(
        self, task: tf.Tensor, rows: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self.of_blocks(self.blocks(task, rows))

    def get_config(self):
        return super().get_config() | {"label_threshold": self.label_threshold}
