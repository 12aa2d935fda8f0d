"""Examples of two classes put together by score: all that curves are computed from."""

from typing import NamedTuple

import tensorflow as tf


class TieBlocks(NamedTuple):
    """Sums over the examples of equal score; blocks in order of rising score.

    A curve must not depend on how ties happen to be ordered, so it is made of blocks.
    """

    scores: tf.Tensor
    """The scores in rising order, (blocks,)."""
    positive: tf.Tensor
    """Weight of the positives, (blocks,); all sums are float64."""
    negative: tf.Tensor
    positive_squares: tf.Tensor
    """Squared weights of the positives, (blocks,), for standard errors."""
    negative_squares: tf.Tensor
    positives: tf.Tensor
    """How many positives have a weight, a scalar."""
    negatives: tf.Tensor


def tie_blocks(scores: tf.Tensor, signed_weights: tf.Tensor) -> TieBlocks:
    """Sorts one list of examples and sums over those of equal score.

    Args:
        scores: (examples,).
        signed_weights: (examples,); weight of a positive, minus weight of a negative.
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
    """True at the first row of sorted lists (rows,) and where one of them changes."""
    starts = tf.zeros_like(ordered[0][1:], tf.bool)
    for values in ordered:
        starts |= values[1:] != values[:-1]
    return tf.concat([tf.ones_like(ordered[0][:1], tf.bool), starts], axis=0)
