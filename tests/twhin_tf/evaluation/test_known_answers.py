"""Known answers are those of all edges given, without the query's own edge."""

import numpy as np

from twhin_tf.evaluation.known_answers import KnownAnswers


def test_known_answers_of_an_edge_leave_out_its_own():
    edges = np.array([[0, 0, 1], [0, 0, 4], [2, 1, 4]])
    known = KnownAnswers(edges, "tail")
    known.add(np.array([[0, 0, 1], [0, 0, 7], [0, 1, 3], [5, 0, 2]]))
    known.add(np.array([[0, 0, 7], [0, 0, 4], [2, 1, 4]]))
    known.finish()
    place, candidate = known.between(edges, 0, 10)
    assert place.tolist() == [0, 0, 1, 1]
    assert candidate.tolist() == [4, 7, 1, 7]
    assert [x.tolist() for x in known.between(edges, 5, 10)] == [[0, 1], [7, 7]]
