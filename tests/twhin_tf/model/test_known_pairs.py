"""Which candidates make an edge of the batch."""

import numpy as np
import tensorflow as tf

from twhin_tf.model.known_pairs import known_pairs


def test_known_pairs_are_those_that_are_edges_of_the_batch():
    # Edges 0 and 1 share lhs and relation; edge 2 has another relation.
    lhs, relation = tf.constant([1, 1, 1, 2]), tf.constant([0, 0, 1, 0])
    rhs = tf.constant([5, 6, 7, 8])
    candidates = tf.constant([[5, 6, 7, 8]])
    found = known_pairs(lhs, relation, rhs, candidates, tf.zeros([4], tf.int32))
    np.testing.assert_array_equal(
        found,
        [
            [True, True, False, False],
            [True, True, False, False],
            [False, False, True, False],
            [False, False, False, True],
        ],
    )
