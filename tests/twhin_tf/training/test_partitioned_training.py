"""Training, evaluation and export of tables that are on disk."""

import dataclasses
import functools
import json
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from recap_tf.core.training import checkpoints
from recap_tf.core.training.stopping import Stop
from twhin_tf.evaluation.edge_scorers import ModelScorer
from twhin_tf.evaluation.evaluator import LinkPredictionSettings, evaluate
from twhin_tf.exporting.export_folder import VectorExportSettings, export_vectors
from twhin_tf.graph.edge_batches import Edges
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses, write_graph
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.losses import SoftmaxLoss
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.partitions.partition_buffer import PartitionBuffer
from twhin_tf.partitions.partition_layout import Partitions
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.partitioned_checkpoints import (
    load_partitioned,
    read_partitions_state,
)
from twhin_tf.training.trainer import GraphTrainer

USERS, ITEMS, COMMUNITIES = 480, 120, 6
ADAGRAD = functools.partial(SparseAdagrad, initial_accumulator_value=1e-6)


@pytest.fixture(scope="module")
def graph(tmp_path_factory) -> Graph:
    """Users buy what their community does, with an edge in ten anywhere."""
    folder = tmp_path_factory.mktemp("graph")
    rng = np.random.default_rng(0)
    users = rng.integers(USERS, size=16_000)
    own = rng.integers(ITEMS // COMMUNITIES, size=16_000) * COMMUNITIES
    own += users % COMMUNITIES
    items = np.where(rng.random(16_000) < 0.9, own, rng.integers(ITEMS, size=16_000))
    edges = np.unique(np.stack([users, 0 * users, items], axis=1), axis=0)
    edges = rng.permutation(edges)
    splits = {"train": edges[1500:], "test": edges[:1500]}
    made = Graph(
        folder=str(folder),
        types={
            "user": NodeType(name="user", rows=USERS),
            "item": NodeType(name="item", rows=ITEMS),
        },
        relations=with_inverses([Relation(name="buy", lhs="user", rhs="item")]),
        splits={name: len(own) for name, own in splits.items()},
    )
    write_graph(made)
    for name, own in splits.items():
        write_edges(made, name, 0, own)
    return made


def make_embedder(graph, optimizer=ADAGRAD, dim=8, **changed) -> Embedder:
    table = NodeTable(
        optimizer=optimizer,
        learning_rate=0.05,
        initializer={"class_name": "RandomNormal", "config": {"stddev": 0.1}},
        storage=changed.pop("storage", "float32"),
    )
    settings = {
        "negatives": [GlobalNegatives(20, sides="rhs")],
        "loss": SoftmaxLoss(),
        "relation_learning_rate": 0.05,
    }
    return Embedder(graph=graph.folder, dim=dim, table=table, **(settings | changed))


def make_settings(folder, **changed) -> TrainSettings:
    settings = {
        "save_dir": str(folder),
        "batch_size": 100,
        "steps": 60,
        "checkpoint_every": 1000,
        "partitions": Partitions(count=8, buffer=2, chunks=1),
        "deterministic": False,
    }
    return TrainSettings(**(settings | changed))


def train(embedder, settings):
    trainer = GraphTrainer(embedder, settings, config="")
    outcome = trainer.run(Stop())
    return trainer, outcome


def load(embedder, graph, path):
    return load_partitioned(path, read_partitions_state(path), embedder, graph)


def weights(embedder, graph, path):
    """All vectors, and those of the relations."""
    model = load(embedder, graph, path)
    found = {name: table[:].numpy() for name, table in model.tables.items()}
    return found | {str(i): w.numpy() for i, w in enumerate(model.operators.weights)}


def mrr(model, graph) -> float:
    settings = LinkPredictionSettings(auc_negatives=1, popularity=False)
    return evaluate(ModelScorer(model), graph, settings)["overall"]["both"]["mrr"]


def test_partitions_learn_as_well_as_tables_in_memory(graph, tmp_path):
    embedder = make_embedder(graph)
    # 600 rows of 8 numbers and their state: 38.4 kB. A fourth is in memory.
    changed = {"steps": 1500, "batch_size": 80}
    partitions = Partitions(memory_limit_mb=0.0096, buffer=2, chunks=2)
    settings = make_settings(tmp_path / "parts", partitions=partitions, **changed)
    trainer, outcome = train(embedder, settings)
    assert sum(t.shape[0] for t in trainer.model.tables.values()) <= 150
    in_memory = make_settings(tmp_path / "whole", partitions=None, **changed)
    whole, _ = train(embedder, in_memory)
    expected = mrr(whole.model, graph)
    assert expected > 0.2  # 0.04 by chance
    found = mrr(load(embedder, graph, outcome.checkpoint), graph)
    assert found == pytest.approx(expected, abs=0.01)


class Killed(BaseException):
    pass


@pytest.mark.parametrize(
    "swap, optimizer", [(1, ADAGRAD), (3, LazyAdam), (5, RowWiseAdagrad)]
)
def test_a_run_killed_at_any_swap_ends_the_same(
    graph, tmp_path, monkeypatch, swap, optimizer
):
    embedder = make_embedder(graph, optimizer)
    _, expected = train(embedder, make_settings(tmp_path / "straight"))
    settings = make_settings(tmp_path / "killed", checkpoint_every=7)
    swaps, bring_in = [], PartitionBuffer._bring_in

    def killed(self, place):
        swaps.append(place)
        if len(swaps) == swap + 2:  # after those that fill the buffer
            raise Killed
        bring_in(self, place)

    with monkeypatch.context() as patched:
        patched.setattr(PartitionBuffer, "_bring_in", killed)
        with pytest.raises(Killed):
            train(embedder, settings)
    _, outcome = train(embedder, settings)
    assert outcome.trained < 60
    one = weights(embedder, graph, expected.checkpoint)
    other = weights(embedder, graph, outcome.checkpoint)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_a_run_stopped_within_a_visit_goes_on_there(graph, tmp_path):
    embedder = make_embedder(graph)
    _, expected = train(embedder, make_settings(tmp_path / "straight"))
    for steps in (2, 17, 60):
        _, outcome = train(embedder, make_settings(tmp_path / "parts", steps=steps))
    assert outcome.trained == 43
    one = weights(embedder, graph, expected.checkpoint)
    other = weights(embedder, graph, outcome.checkpoint)
    for name in one:
        np.testing.assert_array_equal(one[name], other[name])


def test_files_of_no_checkpoint_are_removed(graph, tmp_path):
    settings = make_settings(tmp_path, checkpoint_every=10, checkpoints_to_keep=1)
    train(make_embedder(graph), settings)
    (path,) = checkpoints.list_checkpoints(str(tmp_path))
    state = read_partitions_state(path)
    for name in ("user", "item"):
        files = list((tmp_path / "partitions" / name).glob("*.bin"))
        assert len(files) == sum(version > 0 for version in state.versions[name])


def test_a_whole_type_is_in_memory_and_in_the_checkpoint(graph, tmp_path):
    embedder = make_embedder(graph)
    partitions = Partitions(count=8, buffer=2, whole=["item"])
    trainer, outcome = train(embedder, make_settings(tmp_path, partitions=partitions))
    assert trainer.model.tables["item"].shape[0] == ITEMS
    model = load(embedder, graph, outcome.checkpoint)
    np.testing.assert_array_equal(model.tables["item"], trainer.model.tables["item"])


def test_a_type_without_a_relation_stays_as_it_starts(graph, tmp_path):
    types = graph.types | {"ad": NodeType(name="ad", rows=30)}
    more = dataclasses.replace(graph, folder=str(tmp_path), types=types)
    write_graph(more)
    write_edges(more, "train", 0, np.array([[u, 0, u % ITEMS] for u in range(USERS)]))
    embedder = make_embedder(more)
    found = []
    for steps in (1, 12, 24):
        _, outcome = train(embedder, make_settings(tmp_path / "run", steps=steps))
        found.append(weights(embedder, more, outcome.checkpoint))
    assert len(np.unique(found[0]["ad"])) > 30
    np.testing.assert_array_equal(found[0]["ad"], found[2]["ad"])
    assert not np.array_equal(found[0]["user"], found[2]["user"])
    assert not (tmp_path / "run" / "partitions" / "ad").exists()


@pytest.mark.parametrize("storage", ["float16", "bfloat16"])
def test_16_bit_tables_have_partitions_too(graph, tmp_path, storage):
    embedder = make_embedder(graph, storage=storage)
    _, outcome = train(embedder, make_settings(tmp_path, steps=400))
    model = load(embedder, graph, outcome.checkpoint)
    assert model.tables["user"].dtype == model.tables["user"][:2].dtype == storage
    assert mrr(model, graph) > 0.1
    state = read_partitions_state(outcome.checkpoint)
    version = state.versions["user"][0]
    file = tmp_path / "partitions" / "user" / f"00000-{version:06d}.bin"
    assert file.stat().st_size == 60 * 8 * (2 + 4)


def test_vectors_are_exported_without_reading_tables_whole(graph, tmp_path):
    embedder = make_embedder(graph)
    _, outcome = train(embedder, make_settings(tmp_path))
    model = load(embedder, graph, outcome.checkpoint)
    table = model.tables["user"]
    np.testing.assert_array_equal(tf.gather(table, [[5], [3]])[1, 0], table[3:4][0])
    with pytest.raises(UserError, match=r"twhin.export.top_k must be None for tables"):
        export_vectors(model, graph, str(tmp_path / "out"), VectorExportSettings(), 1)
    settings = VectorExportSettings(quantization=None, top_k=None, plot_method="pca")
    export_vectors(model, graph, str(tmp_path / "out"), settings, 1)
    exported = np.load(tmp_path / "out" / "vectors" / "user.npy")
    np.testing.assert_array_equal(exported, table[:])


@pytest.mark.parametrize(
    "embedder, settings, message",
    [
        ({"negatives": [AllNodes()]}, {}, "cannot be all nodes .* Received: AllNodes"),
        (
            {"negatives": [GlobalNegatives(5, power=0.5)]},
            {},
            "set power = 0, log_q = False. Received: GlobalNegatives",
        ),
        (
            {},
            {"strategy": "mirrored"},
            "must be \"one_device\" .* Received: 'mirrored'",
        ),
        ({}, {"edges": Edges(data_service="a:1")}, "data_service must be None.*'a:1'"),
    ],
)
def test_what_partitions_cannot_do(graph, tmp_path, embedder, settings, message):
    with pytest.raises(UserError, match=message):
        train(make_embedder(graph, **embedder), make_settings(tmp_path, **settings))


def test_another_run_does_not_go_on_from_the_checkpoint(graph, tmp_path):
    embedder = make_embedder(graph)
    train(embedder, make_settings(tmp_path, steps=5))
    other = make_settings(tmp_path, partitions=Partitions(count=9, buffer=2))
    with pytest.raises(UserError, match=r"Partitions.count must be 8, .*Received: 9"):
        train(embedder, other)
    other = make_settings(tmp_path, partitions=Partitions(count=8, buffer=3))
    with pytest.raises(UserError, match=r"Partitions.buffer must be 2, .*Received: 3"):
        train(embedder, other)
    parted = Partitions(count=8, buffer=2, whole=["item"])
    with pytest.raises(UserError, match=r"whole must be \[\], .*Received: \['item'\]"):
        train(embedder, make_settings(tmp_path, partitions=parted))
    with pytest.raises(UserError, match=r"twhin.train.seed must be 0, .*Received: 1"):
        train(embedder, make_settings(tmp_path, seed=1))
    with pytest.raises(UserError, match=r"tables' settings must be .*Received: "):
        train(make_embedder(graph, LazyAdam), make_settings(tmp_path))
    whole = tmp_path / "whole"
    train(embedder, make_settings(whole, steps=5, partitions=None))
    with pytest.raises(UserError, match=r"was trained without twhin.train.partitions"):
        train(embedder, make_settings(whole))


def test_a_folder_of_partitions_is_of_one_run(graph, tmp_path):
    embedder, folder = make_embedder(graph), str(tmp_path / "parts")
    parted = Partitions(count=8, buffer=2, folder=folder)
    settings = make_settings(tmp_path / "one", steps=5, partitions=parted)
    _, outcome = train(embedder, settings)
    before = weights(embedder, graph, outcome.checkpoint)
    other = make_settings(tmp_path / "two", steps=5, partitions=parted)
    message = rf"another than that of the run {tmp_path}/one. Received: '{folder}'"
    with pytest.raises(UserError, match=message):
        train(embedder, other)
    after = weights(embedder, graph, outcome.checkpoint)
    np.testing.assert_array_equal(before["user"], after["user"])
    # A run that was moved, or is not needed any more, keeps nobody out.
    (tmp_path / "one").rename(tmp_path / "two")
    _, outcome = train(embedder, make_settings(tmp_path / "two", partitions=parted))
    assert outcome.trained == 55


def test_a_model_is_of_its_graph_and_settings_only(graph, tmp_path):
    _, outcome = train(make_embedder(graph), make_settings(tmp_path, steps=5))
    message = r"step-00000005 is of another graph or twhin.embedder.dim"
    with pytest.raises(UserError, match=message):
        load(make_embedder(graph, dim=4), graph, outcome.checkpoint)


def test_all_checkpoints_of_a_run_that_was_moved_can_be_read(graph, tmp_path):
    embedder = make_embedder(graph)
    settings = make_settings(tmp_path / "here", steps=20, checkpoint_every=5)
    train(embedder, settings)
    (tmp_path / "here").rename(tmp_path / "there")
    found = checkpoints.list_checkpoints(str(tmp_path / "there"))
    assert [checkpoints.step_of(path) for path in found] == [10, 15, 20]
    users = [weights(embedder, graph, path)["user"] for path in found]
    assert not np.array_equal(users[0], users[1])
    assert not np.array_equal(users[1], users[2])


def test_a_run_does_not_go_on_from_a_cut_off_file(graph, tmp_path):
    embedder = make_embedder(graph)
    train(embedder, make_settings(tmp_path, steps=5))
    (path,) = checkpoints.list_checkpoints(str(tmp_path))
    versions = read_partitions_state(path).versions["user"]
    partition = next(number for number, version in enumerate(versions) if version)
    name = f"{partition:05d}-{versions[partition]:06d}.bin"
    file = tmp_path / "partitions" / "user" / name
    whole = file.read_bytes()
    file.write_bytes(whole[:-4])
    message = rf"{name} must hold .* {len(whole)} bytes. Received: {len(whole) - 4}"
    with pytest.raises(UserError, match=message):
        train(embedder, make_settings(tmp_path, steps=10))


MEASURED = """
import json, sys
from recap_tf.core.training.stopping import Stop
from recap_tf.core.command import UserError
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.training.peak_memory import peak_megabytes
from twhin_tf.partitions.partition_layout import Partitions
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.trainer import GraphTrainer
graph, save_dir, limit = sys.argv[1:]
limit = float(limit)
parts = Partitions(memory_limit_mb=limit) if limit else None
table = NodeTable(initializer={"class_name": "RandomNormal", "config": {"stddev": .1}})
embedder = Embedder(graph=graph, dim=64, table=table, negatives=[GlobalNegatives(10)])
settings = TrainSettings(
    save_dir=save_dir, batch_size=2000, steps=12, checkpoint_every=6, partitions=parts
)
GraphTrainer(embedder, settings, config="").run(Stop())
print(json.dumps(peak_megabytes()))
"""


@pytest.mark.slow
def test_memory_is_bounded(tmp_path):
    # A table of 128 MB, 256 with its optimizer's state.
    rows, edges = 500_000, 30_000
    graph = Graph(
        folder=str(tmp_path / "graph"),
        types={"node": NodeType(name="node", rows=rows)},
        relations=[Relation(name="link", lhs="node", rhs="node")],
        splits={"train": edges},
    )
    write_graph(graph)
    rng = np.random.default_rng(0)
    drawn = rng.integers(rows, size=(edges, 3))
    drawn[:, 1] = 0
    write_edges(graph, "train", 0, drawn)

    def peak(folder, limit):
        command = [sys.executable, "-c", MEASURED, graph.folder, str(tmp_path / folder)]
        done = subprocess.run([*command, str(limit)], capture_output=True, check=True)
        return json.loads(done.stdout.decode().splitlines()[-1])

    least = peak("least", 4.0)
    assert peak("parts", 32.0) - least < 1.5 * 32 + 30
    # What is measured shows tables in memory.
    assert peak("whole", 0) - least > 200
