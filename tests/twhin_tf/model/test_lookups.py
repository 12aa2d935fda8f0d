"""What is looked up before a step, and what the step makes of it."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
from recap_tf.core.optimizers.sparse_sgd import SparseSGD
from recap_tf.core.training.shard import Shard
from twhin_tf.graph.graph import Graph, NodeType, Relation
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.graph_embeddings import EdgeObjective, Penalty
from twhin_tf.model.in_batch_negatives import InBatchNegatives, SharedInBatchNegatives
from twhin_tf.model.lookups import Lookups, look_ahead
from twhin_tf.model.losses import SoftmaxLoss
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.model.operators import ComplexDiagonal
from twhin_tf.settings import Embedder
from twhin_tf.training.building import create_graph_embeddings
from twhin_tf.training.tpu_step import TpuTrainingStep
from twhin_tf.training.tpu_training import make_tables
from twhin_tf.training.training_step import EdgeTrainingStep

GRAPH = Graph(
    folder="nowhere",
    types={
        "user": NodeType(name="user", rows=50),
        "post": NodeType(name="post", rows=7),
        "unused": NodeType(name="unused", rows=3),
    },
    relations=[
        Relation(name="like", lhs="user", rhs="post"),
        Relation(name="follow", lhs="user", rhs="user"),
    ],
    splits={},
)
EDGES = [[1, 0, 1], [2, 0, 1], [3, 1, 20], [4, 0, 3], [5, 1, 30], [6, 0, 4]]
DEGREES = {
    "lhs": [np.arange(50)],
    "rhs": [np.arange(50) % 5, np.array([3, 1, 0, 2, 0, 1, 0])],
}


def seed(step):
    return tf.constant([7, step], tf.int64)


class Case:
    """The same model twice: on plain tables, and on those that are asked ahead."""

    def __init__(self, negatives, optimizer=SparseSGD, mask_known="batch", **settings):
        self.embedder = Embedder(
            graph="nowhere",
            dim=4,
            table=NodeTable(optimizer=optimizer, learning_rate=0.3),
            negatives=negatives,
            relation_optimizer=optimizer,
            **settings,
        )
        self.plain = create_graph_embeddings(self.embedder, GRAPH)
        tables = self.plain.node_tables
        self.samplers = [one.prepare(tables, DEGREES) for one in negatives]
        self.objective = EdgeObjective(
            self.plain,
            self.samplers,
            self.embedder.loss,
            mask_known,
            np.array([1.0, 2.0], np.float32),
            self.embedder.penalty,
        )
        self.lookups = Lookups(tables, self.samplers)
        self.tables = make_tables(self.embedder, GRAPH, self.lookups, len(EDGES))
        self.ahead = create_graph_embeddings(
            self.embedder, GRAPH, self.plain.node_tables
        )
        for name in self.tables.tables:
            self.tables.variable(name).assign(self.plain.tables[name])
        self.ahead.operators.set_weights(self.plain.operators.get_weights())

    def steps(self):
        """The training step of each: (edges, seed) -> report."""
        strategy = tf.distribute.get_strategy()
        groups = self.plain.parameter_groups()
        plain = EdgeTrainingStep(
            self.objective,
            [weight for _, weights in groups.values() for weight in weights],
            GroupedOptimizer(groups),
            tf.Variable(0, dtype=tf.int64),
            strategy,
        )
        groups = self.tables.optimizers()
        groups["relations"] = self.ahead.parameter_groups()["relations"]
        ahead = TpuTrainingStep(
            self.objective.of(self.ahead),
            self.lookups,
            self.tables,
            self.ahead.operators.trainable_weights,
            GroupedOptimizer(groups),
            tf.Variable(0, dtype=tf.int64),
            strategy,
        )
        return plain, ahead


def test_features_are_the_ends_by_type_and_what_samplers_draw():
    negatives = [InBatchNegatives(2), GlobalNegatives(5, sides="rhs")]
    case = Case(negatives)
    assert case.lookups.features == {
        "user": ["lhs/user", "rhs/user", "negatives/1/rhs/user"],
        "post": ["rhs/post", "negatives/1/rhs/post"],
        "unused": [],
    }
    inquiry = case.lookups.inquiry(tf.constant(EDGES), seed(3))
    sizes = {name: rows.shape[0] for name, rows in inquiry.rows.items()}
    assert sizes == case.lookups.sizes(len(EDGES))
    assert sizes["rhs/post"] == 6 and sizes["negatives/1/rhs/post"] == 5
    np.testing.assert_array_equal(inquiry.rows["lhs/user"], [1, 2, 3, 4, 5, 6])
    # Ends of the other type become one that the batch holds.
    np.testing.assert_array_equal(inquiry.rows["rhs/post"], [1, 1, 1, 3, 1, 4])
    np.testing.assert_array_equal(inquiry.rows["rhs/user"], [20, 20, 20, 20, 30, 20])


def test_vectors_come_back_to_the_edges_and_samplers_that_asked():
    case = Case([InBatchNegatives(2), GlobalNegatives(5)])
    sampler = case.samplers[1]
    inquiry = case.lookups.inquiry(tf.constant(EDGES), seed(3))
    # Row r of users is r, of posts -r.
    vectors = {
        name: tf.cast(rows[:, tf.newaxis], tf.float32) * (-1 if "post" in name else 1)
        for name, rows in inquiry.rows.items()
    }
    looked_up = case.lookups.looked_up(inquiry, vectors)
    left, right = looked_up.ends
    np.testing.assert_array_equal(left[:, 0], [1, 2, 3, 4, 5, 6])
    np.testing.assert_array_equal(right[:, 0], [-1, -1, 20, -3, 30, -4])
    rows, found = looked_up.drawn[sampler, "rhs"]
    np.testing.assert_array_equal(found[0][:, 0], rows[0])
    np.testing.assert_array_equal(found[1][:, 0], -rows[1])
    assert [len(one) for one in rows] == [5, 5]
    assert len(looked_up.drawn[sampler, "lhs"][0]) == 1


def test_batches_have_seeds_of_their_own_across_pipelines_and_restarts():
    case = Case([GlobalNegatives(5)])
    batches = tf.data.Dataset.from_tensors(tf.constant(EDGES)).repeat(4)

    def seeds(first, shard):
        ahead = look_ahead(batches, case.lookups, 7, first, shard)
        return [tuple(inquiry.seed.numpy()) for inquiry in ahead]

    assert seeds(0, Shard(0, 1)) == [(7, 0), (7, 1), (7, 2), (7, 3)]
    assert seeds(4, Shard(0, 2)) == [(7, 8), (7, 10), (7, 12), (7, 14)]
    assert seeds(4, Shard(1, 2)) == [(7, 9), (7, 11), (7, 13), (7, 15)]


@pytest.mark.parametrize(
    "settings",
    [
        {"negatives": [InBatchNegatives(3)], "dropout": 0.5},
        {
            "negatives": [
                GlobalNegatives(6),
                GlobalNegatives(4, power=0.75, log_q=True, sides="rhs"),
            ],
            "optimizer": SparseAdagrad,
        },
        {
            "negatives": [GlobalNegatives(5), SharedInBatchNegatives(4)],
            "loss": SoftmaxLoss(),
            "operator": ComplexDiagonal,
            "penalty": Penalty(0.1),
            "mask_known": "own",
            "optimizer": LazyAdam,
        },
    ],
    ids=["in batch", "global", "mixed"],
)
def test_asking_ahead_trains_what_plain_tables_train(settings):
    case = Case(**settings)
    plain, ahead = case.steps()
    before = {name: table.numpy() for name, table in case.plain.tables.items()}
    for step in range(3):
        edges = tf.roll(tf.constant(EDGES), step, axis=0)
        reports = [
            plain.gradients(edges, seed(step))[0],
            ahead.update(case.lookups.inquiry(edges, seed(step))),
        ]
        plain._seed, _ = 7, plain._step.assign(step)
        plain.update(edges)
        np.testing.assert_allclose(*reports, rtol=1e-5)
    for name in ("user", "post"):
        own = case.plain.tables[name].numpy()
        assert (own != before[name]).any()
        np.testing.assert_allclose(case.tables.variable(name), own, atol=1e-5)
    weights = [
        model.operators.trainable_weights[0] for model in (case.plain, case.ahead)
    ]
    np.testing.assert_allclose(*weights, atol=1e-5)


def test_what_runs_on_the_device_compiles_to_the_same():
    """Loss, and its gradients with regard to what was looked up and to relations."""
    # XLA draws other numbers: of each group of the batch, negatives are all the edges.
    negatives = [
        GlobalNegatives(5, power=0.75, log_q=True),
        InBatchNegatives(4),
        SharedInBatchNegatives(12),
    ]
    case = Case(negatives, loss=SoftmaxLoss())
    _, ahead = case.steps()
    inquiry = case.lookups.inquiry(tf.constant(EDGES), seed(0))
    vectors = case.tables(inquiry.rows)
    weights = case.ahead.operators.trainable_weights

    def device(inquiry, vectors):
        with tf.GradientTape() as tape:
            tape.watch(vectors)
            report = ahead.report(inquiry, vectors)
            loss = report[0]
        return report, tape.gradient(loss, (vectors, weights))

    plain = device(inquiry, vectors)
    compiled = tf.function(device, jit_compile=True)(inquiry, vectors)
    for one, other in zip(*map(tf.nest.flatten, (plain, compiled)), strict=True):
        one, other = map(tf.convert_to_tensor, (one, other))
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    gradients, _ = plain[1]
    assert set(gradients) == set(inquiry.rows)
    assert all(np.abs(one).max() > 0 for one in gradients.values())
