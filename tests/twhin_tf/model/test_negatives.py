"""Which nodes stand in for the ends of edges."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from twhin_tf.graph.graph import Graph, NodeType, Relation
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.model.edge_batch import EdgeBatch
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.in_batch_negatives import InBatchNegatives, SharedInBatchNegatives
from twhin_tf.model.node_tables import NodeTable, NodeTables
from twhin_tf.settings import Embedder

GRAPH = Graph(
    folder="nowhere",
    types={
        "user": NodeType(name="user", rows=50),
        "post": NodeType(name="post", rows=7),
    },
    relations=[
        Relation(name="like", lhs="user", rhs="post"),
        Relation(name="follow", lhs="user", rhs="user"),
    ],
    splits={},
)
# Row r of a table holds r, of posts -r: vectors tell where they come from.
LHS, RELATION, RHS = [1, 2, 3, 4, 5, 6], [0, 0, 1, 0, 1, 0], [1, 1, 20, 3, 30, 4]


@pytest.fixture
def tables():
    made = NodeTables(GRAPH, 1, NodeTable(), {})
    made.variables_of["user"].assign(tf.range(50.0)[:, tf.newaxis])
    made.variables_of["post"].assign(-tf.range(7.0)[:, tf.newaxis])
    return made


@pytest.fixture
def batch(tables):
    lhs, relation, rhs = (tf.constant(c, tf.int32) for c in (LHS, RELATION, RHS))
    left, right = tables.edges(lhs, relation, rhs)
    vectors = {"lhs": left, "rhs": right}
    return EdgeBatch({"lhs": lhs, "rhs": rhs}, relation, vectors, 100.0 + left)


def seeds(count):
    return [tf.constant([7, step], tf.int64) for step in range(count)]


def test_in_batch_negatives_are_of_the_same_relation(tables, batch):
    sampler = InBatchNegatives(count=3).prepare(tables, {})
    by_side = dict(sampler.draw(batch, seeds(1)[0]))
    assert set(by_side) == {"lhs", "rhs"}
    ends = {"lhs": np.array(LHS), "rhs": np.array(RHS)}
    for side, found in by_side.items():
        for relation in (0, 1):
            own = set(ends[side][np.array(RELATION) == relation])
            assert set(found.rows[relation].numpy()) <= own
    # Left-hand sides come as the operator has left them.
    assert by_side["lhs"].transformed
    np.testing.assert_allclose(
        by_side["lhs"].vectors[..., 0], 100.0 + by_side["lhs"].rows.numpy()
    )


def test_global_negatives_come_from_the_whole_table_of_the_type(tables, batch):
    sampler = GlobalNegatives(count=400).prepare(tables, {})
    by_side = dict(sampler.draw(batch, seeds(1)[0]))
    found = by_side["rhs"]
    # Groups: user, post, as the graph lists its types.
    np.testing.assert_array_equal(found.group, [1, 1, 0, 1, 0, 1])
    assert set(found.rows[0].numpy()) == set(range(50))
    assert set(found.rows[1].numpy()) == set(range(7))
    np.testing.assert_allclose(found.vectors[1, :, 0], -found.rows[1].numpy())
    assert by_side["lhs"].vectors.shape == (1, 400, 1)


def test_frequent_nodes_are_drawn_more_often_and_log_q_says_how_much(tables, batch):
    degrees = {
        "lhs": [np.ones(50)],
        "rhs": [np.ones(50), np.array([16, 0, 0, 81, 0, 0, 1])],
    }
    settings = GlobalNegatives(count=10_000, power=0.75, log_q=True, sides="rhs")
    assert settings.needs_degrees
    sampler = settings.prepare(tables, degrees)
    ((_, found),) = sampler.draw(batch, seeds(1)[0])
    counts = np.bincount(found.rows[1].numpy(), minlength=7)
    # 16^.75 = 8, 81^.75 = 27.
    expected = np.array([8, 0, 0, 27, 0, 0, 1]) / 36
    np.testing.assert_allclose(counts / 10_000, expected, atol=0.02)
    drawn, own = found.log_q
    shares = expected[found.rows[1].numpy()]
    np.testing.assert_allclose(drawn[1], np.log(shares), rtol=1e-4)
    np.testing.assert_allclose(own[3], np.log(27 / 36), rtol=1e-4)


def test_shared_in_batch_negatives_mix_relations_of_a_type(tables, batch):
    settings = SharedInBatchNegatives(count=6, log_q=True)
    assert settings.needs_degrees
    degrees = {"lhs": [np.arange(50)], "rhs": [np.ones(50), np.ones(7)]}
    sampler = settings.prepare(tables, degrees)
    by_side = dict(sampler.draw(batch, seeds(1)[0]))
    assert set(by_side["lhs"].rows[0].numpy()) == set(LHS)
    assert not by_side["lhs"].transformed
    drawn, own = by_side["lhs"].log_q
    total = sum(range(50))
    np.testing.assert_allclose(own, np.log(np.array(LHS) / total), rtol=1e-5)
    rows = by_side["lhs"].rows[0].numpy()
    np.testing.assert_allclose(drawn[0], np.log(rows / total), rtol=1e-5)


def test_all_nodes_are_the_tables(tables, batch):
    sampler = AllNodes(sides="rhs").prepare(tables, {})
    found = [one for _, one in sampler.draw(batch, seeds(1)[0])]
    assert [one.vectors.shape[1] for one in found] == [50, 7]
    np.testing.assert_array_equal(found[0].columns, [-1, -1, 20, -1, 30, -1])
    np.testing.assert_array_equal(found[1].columns, [1, 1, -1, 3, -1, 4])


def test_taking_vectors_adds_to_their_gradients(tables, batch):
    user = tables.variables_of["user"]
    with tf.GradientTape() as tape:
        left, _ = tables.edges(
            *(tf.constant(c, tf.int32) for c in (LHS, RELATION, RHS))
        )
        batch.vectors["lhs"], batch.queries = left, 3.0 * left
        taken = batch.take("lhs", tf.constant([[0, 2], [2, 2]]))
        queries = batch.take("queries", tf.constant([5]))
        np.testing.assert_array_equal(taken[..., 0], [[1, 3], [3, 3]])
        total = tf.reduce_sum([[10.0, 20.0], [30.0, 40.0]] * taken[..., 0])
        total += tf.reduce_sum(queries) + 100.0 * tf.reduce_sum(batch.vectors["lhs"])
        total += 1000.0 * tf.reduce_sum(batch.queries)
    gradient = tf.convert_to_tensor(tape.gradient(total, user))[:, 0]
    # Rows 1 to 6: of all vectors, of all queries, and of what was taken.
    expected = [3110, 3100, 3190, 3100, 3100, 3103]
    np.testing.assert_allclose(gradient[1:7], expected)


def test_settings_stay_as_they_are_and_serve_several_graphs(tables):
    settings = Embedder(graph="nowhere", dim=1).negatives[0]
    assert settings == InBatchNegatives()
    others = NodeTables(GRAPH, 1, NodeTable(), {})
    samplers = [settings.prepare(one, {}) for one in (tables, others)]
    assert [sampler.tables for sampler in samplers] == [tables, others]
    assert vars(settings) == {"count": 10, "sides": "both"}
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.count = 3


def test_refusals():
    with pytest.raises(ValueError, match=r"InBatchNegatives.count must be at least 1"):
        InBatchNegatives(count=0)
    with pytest.raises(ValueError, match=r"power must be in \[0, 1\]. Received: 2"):
        GlobalNegatives(power=2.0)
