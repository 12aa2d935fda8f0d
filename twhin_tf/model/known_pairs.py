"""Known pairs: candidates that would make an edge that is true."""

import tensorflow as tf

from twhin_tf.model.negatives import of_group


def known_pairs(
    anchors: tf.Tensor,
    relation: tf.Tensor,
    rows: tf.Tensor,
    candidates: tf.Tensor,
    group: tf.Tensor,
) -> tf.Tensor:
    """Whether an edge's candidate makes a pair that is an edge of the batch.

    Args:
        anchors: (batch,): the edges' ends that stay.
        relation: (batch,).
        rows: (batch,): the ends that are replaced.
        candidates: (groups, n): by what.
        group: (batch,): whose candidates an edge gets; a relation is in one group.

    Returns:
        (batch, n) bool.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.known_pairs import known_pairs
    >>> lhs, relation, rhs = tf.unstack(tf.constant([[1, 1], [0, 0], [5, 6]]))
    >>> candidates, group = tf.constant([[5, 6, 7]]), tf.constant([0, 0])
    >>> known_pairs(lhs, relation, rhs, candidates, group).numpy().tolist()
    [[True, True, False], [True, True, False]]
    """
    batch = rows.shape[0]
    key = tf.cast(relation, tf.int64) * 2**32 + tf.cast(anchors, tf.int64)
    # Edges with the same relation and anchor have a number in common.
    query = tf.unique(key).idx
    same = tf.cast(rows[:, tf.newaxis] == of_group(candidates, group), tf.float32)
    answers = tf.math.unsorted_segment_sum(same, query, batch)
    return tf.gather(answers, query) > 0
