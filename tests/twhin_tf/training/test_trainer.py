"""Training graph embeddings: from a folder of edges to checkpoints."""

import argparse
import dataclasses
import os
import pathlib
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.arguments import add_checkpoint, add_config
from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from recap_tf.core.training import checkpoints
from twhin_tf import settings, train
from twhin_tf.evaluation.evaluator import LinkPredictionSettings
from twhin_tf.exporting.export_folder import VectorExportSettings
from twhin_tf.graph.edge_batches import Edges, read_edges
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import (
    Graph,
    NodeType,
    Relation,
    read_graph,
    with_inverses,
    write_graph,
)
from twhin_tf.training import trained
from twhin_tf.training.building import (
    count_degrees,
    create_graph_embeddings,
    relation_weights,
)

USERS, POSTS = 60, 40
CONFIG = """
include "twhin_tf/graph.gin"
twhin.embedder.graph = "{here}"
twhin.embedder.dim = 8
twhin.embedder.negatives = [@InBatchNegatives(), @GlobalNegatives()]
GlobalNegatives.count = 20
GlobalNegatives.sides = "both"
InBatchNegatives.count = 4
twhin.embedder.loss = @LogisticLoss()
twhin.train.save_dir = "{here}/run"
twhin.train.batch_size = 64
twhin.train.steps = 300
twhin.train.log_every = 50
twhin.train.checkpoint_every = 100
"""


@pytest.fixture
def folder(tmp_path):
    """A graph whose even users like even posts and follow even users."""
    random = np.random.default_rng(3)
    lhs = random.integers(USERS, size=2000)
    relation = random.integers(2, size=2000)
    rhs = random.integers(np.where(relation == 0, POSTS, USERS) // 2) * 2 + lhs % 2
    edges = np.stack([lhs, relation, rhs], axis=1)
    stored = [
        Relation(name="like", lhs="user", rhs="post"),
        Relation(name="follow", lhs="user", rhs="user"),
    ]
    graph = Graph(
        folder=str(tmp_path),
        types={
            "user": NodeType(name="user", rows=USERS),
            "post": NodeType(name="post", rows=POSTS),
        },
        relations=with_inverses(stored),
        splits={"train": len(edges)},
    )
    write_graph(graph)
    write_edges(graph, "train", 0, edges)
    (tmp_path / "graph.gin").write_text(CONFIG)
    return tmp_path


def arguments(folder: pathlib.Path, run: str = "run", **bindings) -> list[str]:
    bindings = {"twhin__train__save_dir": repr(str(folder / run))} | bindings
    return [
        "--config",
        str(folder / "graph.gin"),
        *(f"--set={n.replace('__', '.')}={v}" for n, v in bindings.items()),
    ]


def state(run: pathlib.Path) -> dict[str, np.ndarray]:
    path = checkpoints.list_checkpoints(str(run))[-1]
    reader = tf.train.load_checkpoint(f"{path}/state")
    return {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if name != "_CHECKPOINTABLE_OBJECT_GRAPH"
    }


def assert_same(first: pathlib.Path, second: pathlib.Path):
    one, other = state(first), state(second)
    assert one.keys() == other.keys()
    for name, value in one.items():
        if "save_counter" not in name:
            np.testing.assert_array_equal(value, other[name], err_msg=name)


def trained_model(folder, run="run"):
    parser = argparse.ArgumentParser()
    add_config(parser)
    add_checkpoint(parser, best=False)
    given = [*arguments(folder, run), "--checkpoint", str(folder / run)]
    return trained.load_trained(parser.parse_args(given))


def share_above(model, relation, users, right_table):
    """How often a fitting right-hand side scores above one that does not fit."""
    queries = model.transform(relation, tf.gather(model.tables["user"], users))
    scores = model.score_all(queries, tf.convert_to_tensor(model.tables[right_table]))
    scores = scores.numpy()
    fits = np.arange(scores.shape[1])[None] % 2 == np.array(users)[:, None] % 2
    return np.mean(
        [
            (s[f][:, None] > s[~f][None]).mean()
            for s, f in zip(scores, fits, strict=True)
        ]
    )


def test_learns_who_fits_whom(folder, capsys):
    train.main(arguments(folder))
    assert "Step 300" in capsys.readouterr().out
    _, _, model, path = trained_model(folder)
    assert path.endswith("step-00000300")
    users = list(range(0, USERS, 3))
    assert share_above(model, 0, users, "post") > 0.95
    assert share_above(model, 1, users, "user") > 0.95
    # The translations learn too.
    (translations,) = model.operators.trainable_weights
    assert np.all(np.any(translations.numpy() != 0, axis=1))
    tags = set()
    for file in (folder / "run/tensorboard/train").glob("events*"):
        for event in tf.compat.v1.train.summary_iterator(str(file)):
            tags |= {value.tag for value in event.summary.value}
    assert {
        "loss",
        "batch_auc",
        "learning_rate/table/user",
        "learning_rate/relations",
        "speed/edges_per_second",
    } <= tags


def test_a_finished_run_says_so(folder, capsys):
    for _ in range(2):
        train.main(arguments(folder, twhin__train__steps=5))
    assert "is finished at step 5; nothing to do" in capsys.readouterr().err


def test_a_run_that_a_data_service_reads_for_goes_on(folder):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    worker = service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
    given = {
        "twhin__train__edges": "@Edges()",
        "Edges__data_service": repr(dispatcher.target),
    }
    for steps in (5, 10):
        train.main(arguments(folder, twhin__train__steps=steps, **given))
    # Without the service, from a checkpoint that has no position.
    for steps in (15, 20):
        train.main(arguments(folder, twhin__train__steps=steps))
    found = checkpoints.list_checkpoints(str(folder / "run"))
    assert [checkpoints.step_of(path) for path in found] == [10, 15, 20]
    assert not any(os.path.exists(f"{path}/position.index") for path in found)
    del worker


def test_a_checkpoint_is_for_one_graph(folder):
    train.main(arguments(folder, twhin__train__steps=5))
    graph = read_graph(str(folder))
    # As many rows as before, but of other entities.
    user = dataclasses.replace(graph.types["user"], fingerprint="another")
    graph = dataclasses.replace(graph, types=graph.types | {"user": user})
    write_graph(graph)
    write_edges(graph, "train", 0, np.array([[0, 0, 0], [1, 1, 1]]))
    message = "step-00000005 does not belong to the vocabularies of .* Received: "
    with pytest.raises(UserError, match=message + graph.fingerprint):
        train.main(arguments(folder, twhin__train__steps=10))
    with pytest.raises(UserError, match=message + graph.fingerprint):
        trained_model(folder)


def test_going_on_gives_the_same_bits(folder):
    for run, stops in {"whole": (40,), "parts": (17, 40)}.items():
        for steps in stops:
            train.main(arguments(folder, run, twhin__train__steps=steps))
    assert_same(folder / "whole", folder / "parts")


@pytest.mark.slow
def test_a_killed_run_goes_on_with_the_same_bits(folder):
    every = {"twhin__train__checkpoint_every": 20, "twhin__train__steps": 4000}
    command = [sys.executable, "-m", "twhin_tf.train"]
    killed = 0
    for _ in range(20):
        process = subprocess.Popen(
            [*command, *arguments(folder, "killed", **every)],
            stderr=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        seen = len(checkpoints.list_checkpoints(str(folder / "killed")))
        deadline = time.monotonic() + 60
        while process.poll() is None and time.monotonic() < deadline and killed < 2:
            found = checkpoints.list_checkpoints(str(folder / "killed"))
            if len(found) > seen or (found and killed):
                time.sleep(0.4)
                process.send_signal(signal.SIGKILL)
                killed += process.wait() == -signal.SIGKILL
            time.sleep(0.02)
        if process.wait() == 0:
            break
    assert killed == 2
    train.main(arguments(folder, "whole", **every))
    assert_same(folder / "whole", folder / "killed")


@pytest.mark.parametrize("optimizer", ["SparseSGD", "RowWiseAdagrad", "LazyAdam"])
def test_each_table_has_an_optimizer_of_its_own(folder, optimizer):
    own = {
        "twhin__embedder__tables": '{"post": @post/NodeTable()}',
        "post/NodeTable__optimizer": f"@{optimizer}",
        "post/NodeTable__learning_rate": "@PiecewiseConstant()",
        "PiecewiseConstant__boundaries": [2],
        "PiecewiseConstant__values": [0.5, 0.0],
    }
    for steps in (2, 6):
        given = arguments(folder, f"run{steps}", twhin__train__steps=steps, **own)
        train.main(given)
    after2, after6 = state(folder / "run2"), state(folder / "run6")
    (post,) = [
        n for n in after2 if n.endswith("variables_of/post/.ATTRIBUTES/VARIABLE_VALUE")
    ]
    # Its rate is 0 from step 2 on; the other table's is not.
    np.testing.assert_array_equal(after2[post], after6[post])
    user = post.replace("post", "user")
    assert not np.array_equal(after2[user], after6[user])


def test_two_replicas_train(folder):
    script = """
import twhin_tf, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from twhin_tf import train
train.main(sys.argv[1:])
"""
    given = arguments(
        folder, twhin__train__strategy="'mirrored'", twhin__train__steps=200
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd()}
    subprocess.run([sys.executable, "-c", script, *given], check=True, env=environment)
    _, _, model, _ = trained_model(folder)
    assert share_above(model, 0, list(range(0, USERS, 3)), "post") > 0.9


@pytest.mark.slow
def test_compiled_training_is_the_same_training(folder):
    for run, compiled in {"plain": False, "compiled": True}.items():
        train.main(
            arguments(
                folder, run, twhin__train__steps=5, twhin__train__compile=compiled
            )
        )
    one, other = state(folder / "plain"), state(folder / "compiled")
    for name in one:
        if "variables_of" in name and "OPTIMIZER_SLOT" not in name:
            np.testing.assert_allclose(one[name], other[name], atol=1e-3)


@pytest.mark.parametrize(
    "bindings, message",
    [
        ({"twhin__embedder__dim": 0}, r"twhin.embedder.dim must be at least 1. Rec"),
        (
            {"twhin__train__strategy": "'gpu'"},
            r"'one_device' or 'mirrored' or 'multi_worker' or 'tpu' or 'parameter_s",
        ),
        ({"twhin__train__batch_size": 0}, r"twhin.train.batch_size must be at least"),
        (
            {"twhin__embedder__relation_weights": '{"block": 2.0}'},
            r"relation_weights names 'block', which is no relation of the graph. Rec",
        ),
        (
            {"twhin__embedder__tables": '{"tag": @NodeTable()}'},
            r"tables names 'tag', which is no node type. The graph has: 'user', 'post'",
        ),
        (
            {"twhin__embedder__negatives": "[@AllNodes()]"},
            r"AllNodes needs twhin.embedder.loss = @SoftmaxLoss\(\). Received: Logist",
        ),
        (
            {"twhin__embedder__comparator": "@Cosine()"},
            r"GlobalNegatives.sides must be 'rhs' with the comparator Cosine, which",
        ),
        (
            {
                "twhin__embedder__operator": "@ComplexDiagonal",
                "twhin__embedder__dim": 7,
            },
            r"ComplexDiagonal needs an even twhin.embedder.dim. Received: 7",
        ),
        (
            {"twhin__embedder__dropout": 1.0},
            r"twhin.embedder.dropout must be in \[0, 1\). Received: 1.0",
        ),
        ({"twhin__train__seed": -1}, r"twhin.train.seed must be at least 0. Rec"),
    ],
)
def test_bad_settings_are_one_line(folder, bindings, message):
    with pytest.raises((ValueError, UserError), match=message):
        train.main(arguments(folder, **bindings))


@pytest.mark.parametrize("make", [LinkPredictionSettings, VectorExportSettings])
def test_seeds_are_not_negative(make):
    with pytest.raises(ValueError, match=r"twhin\.\w+\.seed .* Received: -1"):
        make(seed=-1)


def test_rows_of_a_type_without_a_relation_stay_as_they_are(folder, capsys):
    graph = read_graph(str(folder))
    types = graph.types | {"ad": NodeType(name="ad", rows=7)}
    graph = dataclasses.replace(graph, types=types)
    write_graph(graph)
    write_edges(graph, "train", 0, np.array([[0, 0, 0], [1, 1, 1]] * 50))
    for steps in (1, 5):
        train.main(arguments(folder, f"run{steps}", twhin__train__steps=steps))
    assert "ad: 7 vectors of 8, in no relation: they stay as they are." in (
        capsys.readouterr().err
    )
    after1, after5 = state(folder / "run1"), state(folder / "run5")
    (ad,) = [n for n in after1 if "/ad/" in n]
    assert after1[ad].any()
    np.testing.assert_array_equal(after1[ad], after5[ad])
    user = ad.replace("/ad/", "/user/")
    assert not np.array_equal(after1[user], after5[user])
    warm = {
        "twhin__train__warm_start": "@WarmStart()",
        "WarmStart__checkpoint": repr(str(folder / "run1")),
        "WarmStart__graph": repr(str(folder)),
        "twhin__train__seed": 1,
    }
    train.main(arguments(folder, "warm", twhin__train__steps=1, **warm))
    np.testing.assert_array_equal(state(folder / "warm")[ad], after1[ad])


def test_inverses_weigh_what_their_relation_weighs(folder):
    given = ["twhin.embedder.relation_weights={'like': 2.0, 'follow/inverse': 3.0}"]
    gin_config.load(str(folder / "graph.gin"), given, roots=settings.ROOTS)
    weights = relation_weights(settings.Embedder(), read_graph(str(folder)))
    np.testing.assert_array_equal(weights, [2.0, 1.0, 2.0, 3.0])


def test_degrees_count_turned_edges_on_the_other_side(folder):
    gin_config.load(str(folder / "graph.gin"), roots=settings.ROOTS)
    graph = read_graph(str(folder))
    tables = create_graph_embeddings(settings.Embedder(), graph).node_tables
    edges = read_edges(Edges(), graph)
    follows = edges[edges[:, 1] == 1]
    as_user = np.bincount(edges[:, 0], minlength=USERS)
    followed = np.bincount(follows[:, 2], minlength=USERS)
    turned = count_degrees(graph, Edges(), tables)
    np.testing.assert_array_equal(turned["lhs"][0], as_user + followed)
    straight = count_degrees(graph, Edges(inverse=False), tables)
    np.testing.assert_array_equal(straight["lhs"][0], as_user)
    np.testing.assert_array_equal(straight["rhs"][0], followed)
