"""What the exact metrics of scores and two classes share."""

import tensorflow as tf

from recap_tf.metrics.machinery.row_metric import RowMetric
from recap_tf.metrics.machinery.tie_blocks import TieBlocks, tie_blocks


class ScoreMetric(RowMetric):
    """An exact metric of scores and two classes.

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,). Keeps 12 bytes
    per example and task (8 with dtype float32). Rows whose weights are all 0 are not
    kept. `of_blocks` computes the value.

    Args:
        label_threshold: labels above it are positives.
        dtype: in which the scores are kept. float32 is exact for scores that come in
            float32; it makes ties of close float64 ones.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_threshold = label_threshold

    def add_variables(self) -> None:
        super().add_variables()
        self.scores = self.add_rows("scores", self.dtype)
        # Positive for a positive, negative for a negative: half the memory of a label
        # beside each weight. A weight needs no more than float32.
        self.signed_weights = self.add_rows("signed_weights", tf.float32)

    @property
    def row_variables(self) -> list[tf.Variable]:
        return [self.scores, self.signed_weights]

    def add_examples(
        self, labels: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor
    ) -> None:
        positive = labels > self.label_threshold
        weighted = weights != 0
        # A NaN without weight must not disturb the sorting of the others.
        scores = tf.where(weighted, scores, tf.zeros_like(scores))
        signed = tf.where(positive, weights, -weights)
        present = tf.reduce_any(weighted, axis=1)
        self.append(tf.boolean_mask(scores, present), tf.boolean_mask(signed, present))

    def blocks(self, task: tf.Tensor, rows: list[tf.Tensor]) -> TieBlocks:
        """The examples of one task put together by score."""
        scores, signed_weights = rows
        return tie_blocks(scores[:, task], signed_weights[:, task])

    def of_blocks(self, blocks: TieBlocks) -> tuple[tf.Tensor, tf.Tensor]:
        """The value and standard error of one task, float64 scalars."""
        raise NotImplementedError

    def of_task(
        self, task: tf.Tensor, rows: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        return self.of_blocks(self.blocks(task, rows))
