"""What the metrics share that are computed in each group (user, request) by itself."""

import tensorflow as tf

from recap_tf.metrics.machinery.moments import ratio_error
from recap_tf.metrics.machinery.ranked_lists import RankedLists, ranked_lists
from recap_tf.metrics.machinery.row_metric import RowMetric
from recap_tf.metrics.machinery.task_metric import value_where


class GroupMetric(RowMetric):
    """A weighted mean over groups of examples.

        value = sum(W_g * value_g) / sum(W_g),  over the groups that have a value

    Call: (labels, predictions, weight) (batch, tasks), groups (batch,), integers
    -> (tasks,). A group may be spread over batches. NaN if no group has a value, or
    with a NaN among the scores. Standard error: groups are independent draws, delta
    method for the ratio above; NaN below two groups.

    Keeps 8 bytes per example and 16 per example and task (12 with dtype float32), in
    room that doubles when it is full; `result` needs some 120 bytes per example, one
    task after the other. Rows whose weights are all 0 are not kept.

    Args:
        dtype: in which the scores are kept. float32 is exact for scores that come in
            float32; it makes ties of close float64 ones.
    """

    needs_groups = True

    def add_variables(self) -> None:
        super().add_variables()
        self.scores = self.add_rows("scores", self.dtype)
        self.labels = self.add_rows("labels", tf.float32)
        self.row_weights = self.add_rows("row_weights", tf.float32)
        self.groups = self.add_rows("groups", tf.int64, per_task=False)

    @property
    def row_variables(self) -> list[tf.Variable]:
        return [self.scores, self.labels, self.row_weights, self.groups]

    def add_examples(
        self,
        labels: tf.Tensor,
        scores: tf.Tensor,
        weights: tf.Tensor,
        groups: tf.Tensor,
    ) -> None:
        # A NaN without weight must not disturb the others.
        scores = tf.where(weights != 0, scores, tf.zeros_like(scores))
        present = tf.reduce_any(weights != 0, axis=1)
        rows = (scores, labels, weights, groups)
        self.append(*(tf.boolean_mask(row, present) for row in rows))

    def of_groups(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """The value, weight and whether there is a value, of each group: (groups,).

        Values are float64, and finite also where there is none.
        """
        raise NotImplementedError

    def of_task(
        self, task: tf.Tensor, rows: list[tf.Tensor]
    ) -> tuple[tf.Tensor, tf.Tensor]:
        value, weight, counted, _ = self._in_groups(task, rows)
        weight = tf.where(counted, weight, tf.zeros_like(weight))
        total = tf.reduce_sum(weight)
        mean = tf.reduce_sum(weight * value) / total
        known = (total > 0) & ~tf.reduce_any(tf.math.is_nan(rows[0][:, task]))
        return (
            value_where(known, mean),
            value_where(known, ratio_error(value, weight)),
        )

    def _in_groups(
        self, task: tf.Tensor, rows: list[tf.Tensor]
    ) -> tuple[tf.Tensor, ...]:
        """What `of_groups` says, and the weight of the examples of each group."""
        scores, labels, weights, groups = rows
        lists = ranked_lists(groups, scores[:, task], labels[:, task], weights[:, task])
        return *self.of_groups(lists), lists.in_group(lists.weights)

    def coverage(self) -> tf.Tensor:
        """The weight of the examples in groups that have a value over that of all.

        Returns:
            float64 (tasks,); NaN without examples.
        """
        return self.coverage_and_error()[0]

    def coverage_and_error(self) -> tuple[tf.Tensor, tf.Tensor]:
        """`coverage` and its standard error, float64 (tasks,) each."""

        def of_task(task: tf.Tensor, rows: list[tf.Tensor]) -> tuple[tf.Tensor, ...]:
            _, _, counted, impressions = self._in_groups(task, rows)
            covered = tf.cast(counted, tf.float64)
            share = tf.reduce_sum(covered * impressions) / tf.reduce_sum(impressions)
            return share, ratio_error(covered, impressions)

        share, error = self.by_task(of_task, 2)
        return self.per_task(share), self.per_task(error)
