"""Exact neighbours and their recall are those by hand."""

import numpy as np

from twhin_tf.exporting.neighbours import exact_neighbours, recall


def test_neighbours_and_recall_are_those_by_hand():
    assert recall(np.array([[1, 2], [3, 4]]), np.array([[2, 1], [4, 9]])) == 0.75
    vectors = np.eye(4, dtype=np.float32) * [1, 2, 3, 4]
    assert exact_neighbours(np.ones((1, 4)), vectors, 2).tolist() == [[3, 2]]
