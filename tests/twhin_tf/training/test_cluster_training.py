"""Training with parameter servers: processes on this machine, and what is refused."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from recap_tf.core.training.shard import Shard
from twhin_tf import evaluate, train
from twhin_tf.graph.edge_batches import Edges, read_edge_batches
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType, Relation, write_graph
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.model.losses import SoftmaxLoss
from twhin_tf.model.warm_start import WarmStart
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.cluster_training import worker_batches
from twhin_tf.training.trainer import GraphTrainer

TINY = pathlib.Path(__file__).parents[3] / "configs" / "twhin_tiny.gin"
CLUSTER = {"chief": ["a:1"], "worker": ["b:1"], "ps": ["c:1"]}


def bindings(folder, steps, run="run", *, servers=True, **others):
    """The tiny graph, with tables and optimizer state that are cut in two."""
    values = {
        "twhin.embedder.graph": str(folder / "graph"),
        "SyntheticGraph.folder": str(folder / "graph"),
        "twhin.embedder.dim": 16,
        "twhin.embedder.table": "@NodeTable()",
        "twhin.embedder.tables": {},
        "NodeTable.optimizer": "@LazyAdam",
        "NodeTable.learning_rate": 0.02,
        "twhin.train.save_dir": str(folder / run),
        "twhin.train.steps": steps,
        "twhin.train.checkpoint_every": 200,
        "twhin.train.deterministic": False,
        "twhin.train.strategy": "parameter_server" if servers else "one_device",
        "twhin.evaluate.limit": 400,
        "twhin.export.folder": None,
    }
    values |= {name.replace("__", "."): value for name, value in others.items()}
    return [
        f"--config={TINY}",
        *(
            f"--set={name}={value if str(value).startswith('@') else repr(value)}"
            for name, value in values.items()
        ),
    ]


class Cluster:
    """Processes of one training."""

    def __init__(self, workers, servers):
        tasks = [("chief", 1), ("worker", workers), ("ps", servers)]
        taken = [socket.socket() for _ in range(workers + servers + 1)]
        for one in taken:
            one.bind(("localhost", 0))
        ports = iter([one.getsockname()[1] for one in taken])
        for one in taken:
            one.close()
        self.lists = {
            k: [f"localhost:{next(ports)}" for _ in range(n)] for k, n in tasks
        }
        self.processes = {}

    def start(self, arguments, kind, index=0, error=subprocess.DEVNULL):
        config = {"cluster": self.lists, "task": {"type": kind, "index": index}}
        self.processes[kind, index] = process = subprocess.Popen(
            [sys.executable, "-m", "twhin_tf.train", *arguments],
            env=os.environ
            | {"TF_CONFIG": json.dumps(config), "PYTHONPATH": os.getcwd()},
            stdout=subprocess.PIPE,
            stderr=error,
            text=True,
        )
        return process

    def start_servers(self, arguments):
        for kind in ("ps", "worker"):
            for index in range(len(self.lists[kind])):
                self.start(arguments, kind, index)


@pytest.fixture
def cluster():
    made = Cluster(workers=2, servers=2)
    yield made
    for process in made.processes.values():
        process.kill()
        process.wait()


def steps_of(run):
    return [checkpoints.step_of(p) for p in checkpoints.list_checkpoints(str(run))]


def wait_for_step(run, above, process):
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        if any(step > above for step in steps_of(run)):
            return
        time.sleep(0.05)
    raise AssertionError(f"No checkpoint after step {above}.")


def overall(path):
    return json.loads(path.read_text())["overall"]["both"]


@pytest.mark.slow
def test_a_cluster_trains_loses_tasks_and_goes_on(tmp_path, cluster):
    train.main(bindings(tmp_path, 500, "alone", servers=False))
    alone = overall(tmp_path / "alone" / "evaluation.json")
    run, arguments = tmp_path / "run", bindings(tmp_path, 500)
    cluster.start_servers(arguments)
    chief = cluster.start(arguments, "chief", error=subprocess.PIPE)
    out, err = chief.communicate(timeout=100)
    assert chief.returncode == 0, err[-2000:]
    assert "Step 500" in out and steps_of(run)[-1] == 500
    found = overall(run / "evaluation.json")
    assert found["auc"] > max(0.65, alone["auc"] - 0.05)
    assert found["mrr"] > 0.6 * alone["mrr"]

    # One device reads what the servers wrote.
    given = bindings(tmp_path, 500, servers=False)
    report = tmp_path / "again.json"
    evaluate.main([*given, "--checkpoint", str(run), "--json", str(report)])
    assert overall(report)["mrr"] == pytest.approx(found["mrr"], rel=1e-5)

    # Another chief goes on, loses a worker for good, and one that comes back.
    arguments = bindings(tmp_path, 3000)
    chief = cluster.start(arguments, "chief", error=subprocess.PIPE)
    wait_for_step(run, 500, chief)
    cluster.processes["worker", 1].kill()
    wait_for_step(run, steps_of(run)[-1], chief)
    cluster.start(arguments, "worker", 1)
    out, err = chief.communicate(timeout=100)
    assert chief.returncode == 0, err[-2000:]
    assert "Going on from" in err and "step-00000500" in err
    assert "Step 3000" in out and steps_of(run)[-1] == 3000

    # Without a server there is no going on, but the checkpoint is.
    arguments = bindings(tmp_path, 100_000)
    chief = cluster.start(arguments, "chief", error=subprocess.PIPE)
    wait_for_step(run, 3000, chief)
    cluster.processes["ps", 1].kill()
    _, err = chief.communicate(timeout=60)
    last = steps_of(run)[-1]
    assert chief.returncode == 2
    message = err.strip().splitlines()[-1]
    assert message.startswith("error: A parameter server was lost, and what it held")
    assert message.endswith(f"goes on from {run}/checkpoints/step-{last:08d}.")
    train.main(bindings(tmp_path, last + 5, servers=False))
    assert steps_of(run)[-1] == last + 5

    # Tasks that are asked to end do so in peace.
    for task in (("ps", 0), ("worker", 0), ("worker", 1)):
        cluster.processes[task].send_signal(signal.SIGTERM)
        assert cluster.processes[task].wait(timeout=30) == 0


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["worker", "ps"])
def test_a_task_whose_address_is_taken_says_so(tmp_path, cluster, kind):
    with socket.socket() as other:
        host, port = cluster.lists[kind][0].split(":")
        other.bind((host, int(port)))
        other.listen()
        process = cluster.start(bindings(tmp_path, 1), kind, error=subprocess.PIPE)
        _, err = process.communicate(timeout=60)
    assert process.returncode == 2
    address = f"{host}:{port}"
    assert f"error: TF_CONFIG: {kind} 0 cannot serve at {address}" in err


def test_a_chief_without_tf_config_is_one_line(tmp_path, monkeypatch):
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(UserError, match=r"needs the environment variable TF_CONFIG"):
        train.main(bindings(tmp_path, 1))


def as_chief(monkeypatch):
    config = {"cluster": CLUSTER, "task": {"type": "chief", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(config))


@pytest.fixture
def graph(tmp_path):
    made = Graph(
        folder=str(tmp_path),
        types={"node": NodeType(name="node", rows=50)},
        relations=[Relation(name="link", lhs="node", rhs="node")],
        splits={"train": 100},
    )
    write_graph(made)
    write_edges(made, "train", 0, np.array([[i % 50, 0, i // 2] for i in range(100)]))
    return made


@pytest.mark.parametrize(
    "model, run, message",
    [
        (
            {},
            {"deterministic": True},
            r"deterministic must be False with .* Rec.* True",
        ),
        (
            {},
            {"compile": True},
            r"twhin.train.compile must be False with .* Rec.* True",
        ),
        (
            {},
            {"warm_start": WarmStart(vectors="old")},
            r"twhin.train.warm_start must be None with twhin.train.strategy = \"param",
        ),
        (
            {},
            {"edges": Edges(data_service="grpc://a:1")},
            r"Edges.data_service must be None with .* Received: 'grpc://a:1'",
        ),
        (
            {"negatives": [AllNodes()], "loss": SoftmaxLoss()},
            {},
            r"negatives cannot be all nodes with twhin.train.strategy.* Rec.* AllNodes",
        ),
    ],
)
def test_what_does_not_go_along_is_one_line(graph, tmp_path, model, run, message):
    embedder = Embedder(graph=graph.folder, dim=4, **model)
    settings = TrainSettings(
        **{
            "save_dir": str(tmp_path / "run"),
            "batch_size": 10,
            "steps": 1,
            "strategy": "parameter_server",
            "deterministic": False,
        }
        | run
    )
    with pytest.raises(UserError, match=message):
        GraphTrainer(embedder, settings, "")


@pytest.mark.parametrize(
    "others, more, message",
    [
        ({"twhin__export__folder": "there"}, [], r"top_k must be None for tables trai"),
        ({}, ["--debug"], r"--debug runs steps in this process; it cannot with twhin"),
        (
            {"twhin__train__partitions": "@Partitions()"},
            [],
            r"strategy must be \"one_device\" with twhin.train.partitions. Rec.*'param",
        ),
    ],
)
def test_commands_that_cannot_be_are_one_line(
    tmp_path, monkeypatch, others, more, message
):
    as_chief(monkeypatch)
    if others:
        others = others | {"Partitions__count": 4} if "@" in str(others) else others
    with pytest.raises(UserError, match=message):
        train.main([*bindings(tmp_path, 1, **others), *more])


def pipelines(graph, workers, done=0):
    """What the trainer of so many workers, `done` steps on, makes pipelines with."""
    settings = TrainSettings(save_dir="nowhere", batch_size=10, steps=1)
    read = worker_batches(settings, graph, workers, done)

    def edges(number):
        batches = read(tf.constant(number, tf.int64)).take(10 // workers)
        return np.concatenate([batch.numpy() for batch in batches])

    return edges


def test_a_worker_that_is_back_reads_all_edges_and_a_resumed_run_others_first(graph):
    of_two = pipelines(graph, 2)
    shares = [of_two(0), of_two(1)]
    assert sorted(np.concatenate(shares).tolist()) == sorted(
        pipelines(graph, 1)(0).tolist()
    )
    # The third to ask has been there before.
    back = pipelines(graph, 2)(2)
    assert not set(map(tuple, back.tolist())) <= set(map(tuple, shares[0].tolist()))
    assert not set(map(tuple, back.tolist())) <= set(map(tuple, shares[1].tolist()))
    assert (pipelines(graph, 2, done=5)(0)[:10] != shares[0][:10]).any()
    with pytest.raises(UserError, match=r"100 edges cannot be shared out to 101 work"):
        pipelines(graph, 101)


def test_workers_read_different_edges(graph):
    def read(shard):
        batches = read_edge_batches(Edges(), graph, 10, seed=4, shard=shard)
        return np.concatenate([batch.numpy() for batch in batches.take(5)])

    @tf.function
    def as_a_worker_does(number):
        two = tf.constant(2, tf.int64)
        return read_edge_batches(
            Edges(), graph, 10, seed=4, shard=Shard(number, two)
        ).map(lambda batch: tf.ensure_shape(batch, [10, 3]))

    parts = []
    for number in range(2):
        dataset = as_a_worker_does(tf.constant(number, tf.int64))
        parts.append(np.concatenate([batch.numpy() for batch in dataset.take(5)]))
        np.testing.assert_array_equal(parts[number], read(Shard(number, 2)))
    together = sorted(map(tuple, np.concatenate(parts)))
    assert together == sorted((i % 50, 0, i // 2) for i in range(100))
