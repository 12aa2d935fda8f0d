"""Popularity ranks nodes by how often they are an end of the relation."""

import numpy as np
from ranked_graphs import graph_of

from twhin_tf.evaluation.known_answers import read_known_answers
from twhin_tf.evaluation.popularity import Popularity


def test_popularity_ranks_by_training_edges_of_the_relation():
    graph = graph_of()
    # Tails of relation 0: node 3 twice, node 5 once; relation 1 has other habits.
    training = np.array([[0, 0, 3], [1, 0, 3], [2, 0, 5], [0, 1, 4], [1, 1, 4]])
    popularity = Popularity([training[:2], training[2:]])
    edges = np.array([[0, 0, 5], [0, 0, 8], [8, 0, 5], [8, 1, 4], [8, 1, 0]])
    known = read_known_answers(edges, [training, edges])["tail"]
    raw, filtered = popularity.ranks(graph, edges, "tail", known)
    # Behind nodes 3 and 5 there are 7 equal ones.
    np.testing.assert_array_equal(raw, [2, 6, 2, 1, 3.5])
    # Node 0 has edges to 3, 5 and 8: only the other six of the equal are left.
    np.testing.assert_array_equal(filtered, [1, 4, 2, 1, 2.5])
