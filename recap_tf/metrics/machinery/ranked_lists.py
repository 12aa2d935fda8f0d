"""Lists of examples sorted by score, and what a place in a list is worth with ties."""

from typing import NamedTuple

import tensorflow as tf

from recap_tf.metrics.machinery.tie_blocks import block_starts


class RankedLists(NamedTuple):
    """Examples of one task, list after list, each from the highest score down.

    How ties are ordered is chance, so nothing may depend on it: what belongs to a place
    in a list is averaged over the places of the examples that share a score.
    """

    labels: tf.Tensor
    """float64 (examples,), as all that follows unless it says otherwise."""
    weights: tf.Tensor
    name: tf.Tensor
    """Which list, as it was given."""
    group: tf.Tensor
    """Which list, int32 from 0, without gaps."""
    block: tf.Tensor
    """Which set of equal scores within a list, int32 from 0, without gaps."""
    place: tf.Tensor
    """1 for the first of a list."""

    def in_group(self, values: tf.Tensor) -> tf.Tensor:
        """Sums of values (examples,) by list, (groups,)."""
        return tf.math.segment_sum(values, self.group)

    def in_block(self, values: tf.Tensor) -> tf.Tensor:
        """Sums of values (examples,) by set of ties, for each example: (examples,)."""
        return tf.gather(tf.math.segment_sum(values, self.block), self.block)

    def over_ties(self, values: tf.Tensor) -> tf.Tensor:
        """Means of values (examples,) by set of ties, for each example."""
        return self.in_block(values) / self.in_block(tf.ones_like(values))

    def mean_weight(self) -> tf.Tensor:
        """Mean weight of the examples of each list, (groups,)."""
        return self.in_group(self.weights) / self.in_group(tf.ones_like(self.weights))


def ranked_lists(
    groups: tf.Tensor, scores: tf.Tensor, labels: tf.Tensor, weights: tf.Tensor
) -> RankedLists:
    """Sorts one task's examples; those of weight 0 are left out.

    Args:
        groups: (examples,), integers; equal for the examples of one list.
        scores, labels, weights: (examples,).
    """
    present = tf.where(weights != 0)[:, 0]
    groups, scores = tf.gather(groups, present), tf.gather(scores, present)
    by_score = tf.argsort(scores, direction="DESCENDING")
    # Stable, so that each list stays sorted by score.
    by_group = tf.argsort(tf.gather(groups, by_score), stable=True)
    order = tf.gather(by_score, by_group)
    groups, scores = tf.gather(groups, order), tf.gather(scores, order)
    rows = tf.gather(present, order)
    first = block_starts(groups)
    group = tf.cumsum(tf.cast(first, tf.int32)) - 1
    block = tf.cumsum(tf.cast(block_starts(groups, scores), tf.int32)) - 1
    row = tf.range(tf.size(groups))
    place = row - tf.gather(tf.boolean_mask(row, first), group) + 1
    return RankedLists(
        tf.cast(tf.gather(labels, rows), tf.float64),
        tf.cast(tf.gather(weights, rows), tf.float64),
        groups,
        group,
        block,
        tf.cast(place, tf.float64),
    )


def within(k: int | None, place: tf.Tensor) -> tf.Tensor:
    """1 for the first k places, 0 for those after; 1 for all without k."""
    if k is None:
        return tf.ones_like(place)
    return tf.cast(place <= k, place.dtype)
