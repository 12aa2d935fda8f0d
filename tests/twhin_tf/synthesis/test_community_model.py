"""Edges are drawn with the probabilities that rank them best."""

import numpy as np
import pytest

from twhin_tf.synthesis.community_model import CommunityRelation, Nodes


def test_probabilities_are_those_of_the_draws():
    rng = np.random.default_rng(0)
    lhs, rhs = (Nodes(count, 3, 2.5, rng) for count in (1, 20))
    drawn = CommunityRelation(lhs, rhs, 0.6).draw(200_000, rng)
    expected = rhs.probabilities(lhs.communities[0], 0.6)
    assert expected.sum() == pytest.approx(1)
    shares = np.bincount(drawn[:, 1], minlength=20) / len(drawn)
    np.testing.assert_allclose(shares, expected, atol=0.005)


def test_the_best_mrr_is_that_by_hand():
    rng = np.random.default_rng(0)
    lhs, rhs = Nodes(2, 1, 2.5, rng), Nodes(3, 1, 2.5, rng)
    order = np.argsort(-rhs.weights)
    relation = CommunityRelation(lhs, rhs, 0.5)
    edges = np.array([[0, order[0]], [1, order[2]]])
    assert relation.best_mrr(edges) == pytest.approx((1 + 1 / 3) / 2)
    rhs.weights[:] = 1.0  # all are equal, at rank 2
    assert relation.best_mrr(edges) == pytest.approx(1 / 2)


def test_a_community_without_nodes_draws_from_all():
    nodes = Nodes(3, 1000, 2.5, np.random.default_rng(0))
    empty = np.flatnonzero(np.bincount(nodes.communities, minlength=1000) == 0)[:500]
    drawn = nodes.draw_in(empty, np.random.default_rng(1))
    assert set(drawn.tolist()) == {0, 1, 2}
    assert nodes.probabilities(empty[0], 0.9).sum() == pytest.approx(1)
