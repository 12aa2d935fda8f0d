"""A training that starts from the vectors of a smaller graph."""

import functools

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
from recap_tf.core.training import checkpoints
from recap_tf.core.training.stopping import Stop
from twhin_tf.exporting.vector_files import write_vectors
from twhin_tf.graph.edge_batches import Edges, read_edges
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.entities import Entities, vocabulary_path, write_entities
from twhin_tf.graph.graph import Graph, NodeType, Relation, write_graph
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.losses import SoftmaxLoss
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.model.warm_start import Drift, WarmStart
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.building import create_graph_embeddings
from twhin_tf.training.old_vectors import OldVectors
from twhin_tf.training.trainer import GraphTrainer

ADAGRAD = functools.partial(SparseAdagrad, initial_accumulator_value=1e-6)
USERS, ITEMS, COMMUNITIES = 100, 40, 4


def make_graph(folder, users, items, relations=("buy",), edges=None) -> Graph:
    """Entities in the order given; users buy the items of their community."""
    made = Graph(
        folder=str(folder),
        types={
            name: NodeType(
                name=name, rows=len(ids), vocabulary=vocabulary_path(str(folder), name)
            )
            for name, ids in (("user", users), ("item", items))
        },
        relations=[Relation(name=one, lhs="user", rhs="item") for one in relations],
        splits={"train": 0},
    )
    write_graph(made)
    tf.io.gfile.makedirs(f"{folder}/vocabulary")
    for name, ids in (("user", users), ("item", items)):
        write_entities(made.types[name].vocabulary, Entities(ids=pa.array(ids)))
    if edges is None:
        edges = [
            [u, 0, i]
            for u, user in enumerate(users)
            for i, item in enumerate(items)
            if user % COMMUNITIES == item % COMMUNITIES
        ]
    write_edges(made, "train", 0, np.array(edges))
    return made


def make_embedder(graph, optimizer=ADAGRAD, dim=8) -> Embedder:
    normal = {"class_name": "RandomNormal", "config": {"stddev": 0.1}}
    table = NodeTable(optimizer=optimizer, learning_rate=0.05, initializer=normal)
    return Embedder(
        graph=graph.folder,
        dim=dim,
        table=table,
        negatives=[GlobalNegatives(20, sides="rhs")],
        loss=SoftmaxLoss(),
        relation_learning_rate=0.05,
    )


def train(graph, folder, steps=150, optimizer=ADAGRAD, **changed):
    settings = TrainSettings(
        save_dir=str(folder),
        batch_size=100,
        steps=steps,
        log_every=steps,
        deterministic=False,
        **changed,
    )
    trainer = GraphTrainer(make_embedder(graph, optimizer), settings, config="")
    trainer.run(Stop())
    return trainer


@pytest.fixture(scope="module")
def old(tmp_path_factory):
    """The small graph, its trained model and the run's folder."""
    folder = tmp_path_factory.mktemp("old")
    graph = make_graph(folder / "graph", range(USERS), range(ITEMS))
    return graph, train(graph, folder / "run").model, str(folder / "run")


@pytest.fixture(scope="module")
def grown(tmp_path_factory) -> Graph:
    """Old nodes backwards, after new ones; one more relation, before the old."""
    users = [*range(USERS, 130), *reversed(range(USERS))]
    items = [*range(ITEMS, 60), *reversed(range(ITEMS))]
    made = make_graph(tmp_path_factory.mktemp("grown"), users, items, ("see", "buy"))
    edges = [
        [u, 1, i]
        for u, user in enumerate(users)
        for i, item in enumerate(items)
        if user % COMMUNITIES == item % COMMUNITIES
    ]
    write_edges(made, "train", 0, np.array(edges))
    return made


def started(old, grown, optimizer=ADAGRAD, **changed):
    """A model that has been given its start, and is not trained."""
    graph, _, run = old
    warm_start = WarmStart(**({"checkpoint": run, "graph": graph.folder} | changed))
    embedder = make_embedder(grown, optimizer)
    model = create_graph_embeddings(embedder, grown)
    groups = model.parameter_groups()
    GroupedOptimizer(groups).create_slots()
    found = OldVectors(warm_start, embedder, grown)
    found.give(model, groups, Edges())
    return model, groups, found


def test_old_nodes_and_relations_keep_their_vectors(old, grown):
    _, before, _ = old
    model, _, found = started(old, grown)
    # Rows 30 to 129 are users 99 to 0.
    np.testing.assert_array_equal(
        model.tables["user"][30:], before.tables["user"][::-1]
    )
    np.testing.assert_array_equal(
        model.tables["item"][20:], before.tables["item"][::-1]
    )
    was, now = before.operators.weights[0], model.operators.weights[0]
    np.testing.assert_array_equal(now[1], was[0])
    np.testing.assert_array_equal(now[0], np.zeros(8))
    assert found.shares() == {"user": 100 / 130, "item": 40 / 60}
    # New rows are as an initializer draws them.
    assert 0.05 < np.std(model.tables["user"][:30]) < 0.2


def test_the_state_of_old_rows_comes_along(old, grown):
    _, groups, _ = started(old, grown)
    optimizer, (table,) = groups["table/user"]
    accumulator = optimizer.get_slot(table, "accumulator").numpy()
    (path,) = checkpoints.list_checkpoints(old[2])
    reader = tf.train.load_checkpoint(f"{path}/state")
    names = reader.get_variable_to_shape_map()
    (name,) = [n for n in names if "/user/.OPT" in n and "/accumulator/" in n]
    was = reader.get_tensor(name)
    assert len(np.unique(was[:, 0])) == USERS
    np.testing.assert_array_equal(accumulator[30:], was[::-1])
    np.testing.assert_allclose(accumulator[:30], 1e-6)


def test_another_optimizer_starts_anew(old, grown):
    model, groups, _ = started(old, grown, optimizer=LazyAdam)
    optimizer, (table,) = groups["table/user"]
    assert not optimizer.get_slot(table, "moments").numpy().any()
    np.testing.assert_array_equal(model.tables["user"][129], old[1].tables["user"][0])


def test_exported_vectors_will_do(old, grown, tmp_path):
    _, before, _ = old
    users = pa.array(range(USERS))
    write_vectors(str(tmp_path), "user", users, before.tables["user"])
    changed = {"checkpoint": None, "graph": None, "vectors": str(tmp_path)}
    model, _, found = started(old, grown, **changed)
    np.testing.assert_array_equal(
        model.tables["user"][30:], before.tables["user"][::-1]
    )
    assert found.shares() == {"user": 100 / 130, "item": 0.0}


def test_new_nodes_start_near_their_neighbours(old, grown):
    model, _, _ = started(old, grown, new_rows="neighbours")
    users, items = model.tables["user"].numpy(), model.tables["item"].numpy()
    scores = (users + model.operators.weights[0][1].numpy()) @ items.T
    user_community = np.array([*range(100, 130), *range(99, -1, -1)]) % COMMUNITIES
    item_community = np.array([*range(40, 60), *range(39, -1, -1)]) % COMMUNITIES
    own = user_community[:30, np.newaxis] == item_community[20:]
    new = scores[:30, 20:]
    assert new[own].mean() > new[~own].mean() + 1
    length = np.linalg.norm(users, axis=1)
    np.testing.assert_allclose(length[:30], length[30:].mean(), rtol=1e-5)


def test_drift_keeps_old_vectors_near_and_the_loss_still_falls(old, grown, tmp_path):
    graph, before, run = old
    movements, losses = [], []
    for drift in (0.0, 3.0):
        warm = WarmStart(checkpoint=run, graph=graph.folder, drift=drift)
        first = train(grown, tmp_path / f"{drift}-0", 1, warm_start=warm)
        last = train(grown, tmp_path / f"{drift}-1", 150, warm_start=warm)
        moved = last.model.tables["user"][30:] - before.tables["user"][::-1]
        movements.append(np.linalg.norm(moved, axis=1).mean())
        losses.append([mean_loss(one.model, grown) for one in (first, last)])
    assert movements[1] < movements[0] / 3
    for start, end in losses:
        assert end < start - 0.1


def mean_loss(model, graph) -> float:
    """Mean cross entropy of an edge among all items."""
    edges = read_edges(Edges(), graph)
    users = tf.gather(model.tables["user"], edges[:, 0])
    queries = model.transform(edges[:, 1], users)
    scores = model.score_all(queries, tf.convert_to_tensor(model.tables["item"]))
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(edges[:, 2], scores)
    return float(tf.reduce_mean(losses))


def test_drift_by_hand():
    graph = Graph(
        folder="",
        types={n: NodeType(name=n, rows=2) for n in ("user", "item")},
        relations=[Relation(name="buy", lhs="user", rhs="item")],
        splits={},
    )
    model = create_graph_embeddings(make_embedder(graph, dim=2), graph)
    model.tables["user"].assign([[1.0, 2.0], [3.0, 4.0]])
    model.tables["item"].assign([[0.0, 0.0], [5.0, 5.0]])
    nothing = [np.nan, np.nan]
    old = {"user": [[1.0, 1.0], nothing], "item": [[0.0, 3.0], nothing]}
    old = {name: np.float32(rows) for name, rows in old.items()}
    drift = Drift(0.5, model.node_tables, old)
    # 1 + 9 for the first edge, nothing for the second.
    with tf.GradientTape() as tape:
        cost = drift(model.read(tf.constant([[0, 0, 0], [1, 0, 1]])))
    assert float(cost) == 0.5 * 10 / 2
    gradient = tf.convert_to_tensor(tape.gradient(cost, model.tables["user"]))
    np.testing.assert_allclose(gradient, [[0, 0.5], [0, 0]])


def test_drift_is_from_the_vectors_of_each_end_s_own_type():
    graph = Graph(
        folder="",
        types={n: NodeType(name=n, rows=2) for n in ("user", "item")},
        relations=[
            Relation(name="buy", lhs="user", rhs="item"),
            Relation(name="know", lhs="user", rhs="user"),
        ],
        splits={},
    )
    model = create_graph_embeddings(make_embedder(graph, dim=1), graph)
    model.tables["user"].assign([[1.0], [2.0]])
    model.tables["item"].assign([[3.0], [4.0]])
    old = {"user": np.float32([[1], [1]]), "item": np.float32([[1], [1]])}
    drift = Drift(1.0, model.node_tables, old)
    # buy 0 -> 1: 0 and 9; know 1 -> 0: 1 and 0.
    assert float(drift(model.read(tf.constant([[0, 0, 1], [1, 1, 0]])))) == 10 / 2


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "takes checkpoint and graph, or vectors. Received: None, None and None"),
        ({"checkpoint": "a"}, "Received: 'a', None and None"),
        ({"vectors": "a", "graph": "b"}, "Received: None, 'b' and 'a'"),
        ({"vectors": "a", "new_rows": "x"}, "new_rows must be .*Received: 'x'"),
        ({"vectors": "a", "drift": -1.0}, "drift must be at least 0. Received: -1.0"),
    ],
)
def test_warm_start_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        WarmStart(**settings)


def test_what_does_not_fit(old, grown, tmp_path):
    def find(ids, width=8):
        table = tf.Variable(tf.zeros([len(ids), width]))
        write_vectors(str(tmp_path), "user", pa.array(ids), table)
        OldVectors(WarmStart(vectors=str(tmp_path)), make_embedder(grown), grown)

    with pytest.raises(UserError, match=r"no entity of .* is in"):
        find([1000, 2000])
    with pytest.raises(UserError, match=r"'user' must be int64 .*Received: string"):
        find(["a", "b"])
    with pytest.raises(UserError, match=r"of 8 numbers, as twhin.*Received: 4"):
        find([1, 2], width=4)
