"""A TPU's trainer, with this machine in place of the TPU: it gathers from variables."""

import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from recap_tf.core.training import checkpoints
from twhin_tf import settings, train
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import (
    Graph,
    NodeType,
    Relation,
    read_graph,
    with_inverses,
    write_graph,
)
from twhin_tf.model.lookups import look_ahead
from twhin_tf.training import tpu_training
from twhin_tf.training.trained import load_model

CONFIG = """
include "twhin_tf/graph.gin"
twhin.embedder.graph = "{here}"
twhin.embedder.dim = 8
twhin.embedder.table = @NodeTable()
NodeTable.optimizer = @SparseSGD
NodeTable.learning_rate = 2.0
twhin.embedder.negatives = [@InBatchNegatives(), @GlobalNegatives()]
InBatchNegatives.count = 4
GlobalNegatives.count = 20
GlobalNegatives.power = 0.75
twhin.train.batch_size = 64
twhin.train.steps = 6
twhin.train.log_every = 2
twhin.train.checkpoint_every = 4
"""

VALUE = ".ATTRIBUTES/VARIABLE_VALUE"
TABLE = "model/node_tables/variables_of/{}/" + VALUE


@pytest.fixture
def folder(tmp_path):
    random = np.random.default_rng(3)
    lhs, relation = random.integers(30, size=400), random.integers(2, size=400)
    rhs = random.integers(np.where(relation == 0, 20, 30) // 2) * 2 + lhs % 2
    stored = [
        Relation(name="like", lhs="user", rhs="post"),
        Relation(name="follow", lhs="user", rhs="user"),
    ]
    graph = Graph(
        folder=str(tmp_path),
        types={
            "user": NodeType(name="user", rows=30),
            "post": NodeType(name="post", rows=20),
        },
        relations=with_inverses(stored),
        splits={"train": 400},
    )
    write_graph(graph)
    write_edges(graph, "train", 0, np.stack([lhs, relation, rhs], axis=1))
    text = CONFIG.format(here=tmp_path)
    (tmp_path / "graph.gin").write_text(text)
    return tmp_path


@pytest.fixture
def no_tpu(monkeypatch):
    """The TPU is this machine."""
    here = tf.distribute.get_strategy()
    monkeypatch.setattr(tpu_training, "connect", lambda name: here)


def arguments(folder: pathlib.Path, run: str, **bindings) -> list[str]:
    given = {"twhin__train__save_dir": repr(str(folder / run))} | bindings
    return [
        "--config",
        str(folder / "graph.gin"),
        *(f"--set={n.replace('__', '.')}={v}" for n, v in given.items()),
    ]


def run(folder, run, **bindings) -> str:
    """Trains by the command; the last checkpoint's folder."""
    train.main(arguments(folder, run, **bindings))
    return checkpoints.list_checkpoints(str(folder / run))[-1]


def on_tpu(folder, name, **bindings) -> str:
    return run(folder, name, twhin__train__strategy="'tpu'", **bindings)


def state(path: str) -> dict[str, np.ndarray]:
    reader = tf.train.load_checkpoint(f"{path}/state")
    names = reader.get_variable_to_shape_map()
    left_out = "_CHECKPOINTABLE_OBJECT_GRAPH"
    return {n: reader.get_tensor(n) for n in names if n != left_out}


def test_a_checkpoint_is_that_of_one_device(folder, no_tpu):
    """Same batches, same negatives: same names, same shapes, same numbers."""
    plain, tpu = state(run(folder, "plain")), state(on_tpu(folder, "tpu"))
    assert plain.keys() == tpu.keys()
    for name, value in plain.items():
        np.testing.assert_allclose(tpu[name], value, atol=1e-5, err_msg=name)
    assert not (folder / "tpu" / "embedding_cores").exists()
    graph = read_graph(str(folder))
    path = checkpoints.choose_checkpoint(str(folder / "tpu"))
    model = load_model(path, settings.Embedder(), graph)
    name = TABLE.format("post")
    np.testing.assert_array_equal(model.tables["post"], tpu[name])


def test_a_run_goes_on_from_tpu_to_one_device_and_back(folder, no_tpu, capsys):
    first = state(on_tpu(folder, "run"))
    second = state(run(folder, "run", twhin__train__steps=8))
    third = state(on_tpu(folder, "run", twhin__train__steps=9))
    counters = [n for n in first if n.endswith("/iter/.ATTRIBUTES/VARIABLE_VALUE")]
    assert len(counters) == 3
    for name in counters:
        assert [int(one[name]) for one in (first, second, third)] == [6, 8, 9]
    assert capsys.readouterr().err.count("Going on from") == 2
    name = TABLE.format("post")
    # A few batches further, not anew from the initializer.
    start = np.abs(first[name] - second[name]).mean()
    assert 0 < np.abs(second[name] - third[name]).mean() < start


def test_a_run_that_goes_on_has_other_edges_and_negatives_and_its_rate(
    folder, no_tpu, monkeypatch
):
    began = []

    def record(edges, lookups, seed, first, shard):
        began.append((first, next(iter(edges)).numpy()))
        return look_ahead(edges, lookups, seed, first, shard)

    monkeypatch.setattr(tpu_training, "look_ahead", record)
    rates = {
        "NodeTable__learning_rate": "@PiecewiseConstant()",
        "PiecewiseConstant__boundaries": [6],
        "PiecewiseConstant__values": [2.0, 0.0],
    }
    first = state(on_tpu(folder, "run", **rates))
    second = state(on_tpu(folder, "run", **rates, twhin__train__steps=8))
    assert [number for number, _ in began] == [0, 6]
    assert (began[0][1] != began[1][1]).any()
    for name in (TABLE.format("user"), TABLE.format("post")):
        np.testing.assert_array_equal(first[name], second[name])


def test_a_tpu_starts_from_old_vectors(folder, no_tpu):
    old = state(run(folder, "old"))
    warm = {
        "twhin__train__warm_start": "@WarmStart()",
        "WarmStart__checkpoint": repr(str(folder / "old")),
        "WarmStart__graph": repr(str(folder)),
        "NodeTable__learning_rate": 1e-9,
        "twhin__embedder__relation_learning_rate": 1e-9,
    }
    new = state(on_tpu(folder, "new", twhin__train__steps=1, **warm))
    (relations,) = [n for n in old if n.endswith("/translations/" + VALUE)]
    assert np.abs(old[relations]).max() > 0.01
    for name in (TABLE.format("user"), TABLE.format("post"), relations):
        np.testing.assert_allclose(new[name], old[name], atol=1e-6)


@pytest.mark.parametrize(
    "bindings, message",
    [
        (
            {
                "twhin__embedder__negatives": "[@AllNodes()]",
                "twhin__embedder__loss": "@SoftmaxLoss()",
            },
            r"negatives cannot be all nodes with twhin.train.strategy = 'tpu', which "
            r"looks up single rows. Received: AllNodes",
        ),
        (
            {"NodeTable__storage": "'bfloat16'"},
            r"NodeTable.storage of type 'user' must be 'float32' with twhin.train.strat"
            r"egy = 'tpu'. Received: 'bfloat16'",
        ),
        (
            {"NodeTable__optimizer": "@RowWiseAdagrad"},
            r"NodeTable.optimizer of type 'user': RowWiseAdagrad does not exist on T",
        ),
        (
            {
                "twhin__train__warm_start": "@WarmStart()",
                "WarmStart__vectors": "'somewhere'",
                "WarmStart__drift": 0.1,
            },
            r"WarmStart.drift must be 0 with twhin.train.strategy = 'tpu', which does "
            r"not look up old vectors. Received: 0.1",
        ),
        (
            {"twhin__train__compile": True},
            r"twhin.train.compile must be False with .*, which always compiles. Receiv",
        ),
        (
            {
                "twhin__train__partitions": "@Partitions()",
                "Partitions__count": 4,
                "GlobalNegatives__power": 0.0,
            },
            r'strategy must be "one_device" with twhin.train.partitions. Received: '
            "'tpu'",
        ),
        (
            {"twhin__train__tpu": "'nowhere'"},
            r"No TPU answers under the name 'nowhere'",
        ),
    ],
    ids=["all nodes", "16 bits", "optimizer", "drift", "compile", "partitions", "none"],
)
def test_what_a_tpu_cannot_do_is_one_line(folder, bindings, message):
    with pytest.raises((ValueError, UserError), match=message):
        on_tpu(folder, "run", **bindings)


def test_a_tpu_has_no_debugger(folder):
    given = [*arguments(folder, "run", twhin__train__strategy="'tpu'"), "--debug"]
    with pytest.raises(UserError, match=r"--debug cannot be used with twhin.train.str"):
        train.main(given)


REPLICAS = """
import json, sys
import recap_tf
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from recap_tf.core.training.logs import Logs
from recap_tf.core.training.strategy import make_strategy
from twhin_tf.training import tpu_training
from twhin_tf import train
tpu_training.connect = lambda name: make_strategy("mirrored")
write = Logs.write
def record(self, run, step, values):
    print(json.dumps(values["loss"]))
    write(self, run, step, values)
Logs.write = record
train.main(sys.argv[1:])
"""


def on_two_replicas(folder, name, **bindings) -> list[float]:
    """Trains in a process of its own; the losses that it logs."""
    given = arguments(folder, name, twhin__train__strategy="'tpu'", **bindings)
    command = [sys.executable, "-c", REPLICAS, *given]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    count = bindings["twhin__train__steps"] // bindings["twhin__train__log_every"]
    return [float(line) for line in done.stdout.splitlines()[:count]]


@pytest.mark.slow
def test_two_replicas_train_one_set_of_tables(folder):
    steps = {"twhin__train__steps": 60, "twhin__train__log_every": 20}
    losses = on_two_replicas(folder, "run", **steps)
    assert losses[-1] < 0.95 * losses[0]
    # Of a mirrored layer, the host still saves plain tables.
    (path,) = checkpoints.list_checkpoints(str(folder / "run"))[-1:]
    given = [f"twhin.train.save_dir={str(folder / 'run')!r}"]
    gin_config.load(str(folder / "graph.gin"), given, roots=settings.ROOTS)
    model = load_model(path, settings.Embedder(), read_graph(str(folder)))
    assert model.tables["user"].shape == (30, 8)


@pytest.mark.slow
def test_two_replicas_move_tables_as_far_as_one(folder):
    # A single edge: whoever draws a batch and its negatives, they are the same.
    one = Relation(name="like", lhs="user", rhs="post")
    types = {name: NodeType(name=name, rows=1) for name in ("user", "post")}
    graph = Graph(
        folder=str(folder / "one"), types=types, relations=[one], splits={"train": 400}
    )
    write_graph(graph)
    write_edges(graph, "train", 0, np.zeros((400, 3), np.int64))
    given = {
        "twhin__embedder__graph": repr(graph.folder),
        "twhin__embedder__loss": "@LogisticLoss()",
        "twhin__embedder__mask_known": "'nothing'",
        "NodeTable__initializer": "'ones'",
        "twhin__train__steps": 4,
        "twhin__train__log_every": 2,
    }
    losses = on_two_replicas(folder, "two", **given)
    assert losses[1] < 0.9 * losses[0]
    plain = state(run(folder, "plain", **given))
    two = state(checkpoints.list_checkpoints(str(folder / "two"))[-1])
    for name in (TABLE.format("user"), TABLE.format("post")):
        assert (plain[name] < 0.9).all()
        np.testing.assert_allclose(two[name], plain[name], rtol=1e-5)
    (translations,) = [n for n in plain if n.endswith("/translations/" + VALUE)]
    assert (plain[translations] != 0).all()
    np.testing.assert_allclose(two[translations], plain[translations], rtol=1e-5)
