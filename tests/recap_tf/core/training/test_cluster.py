"""What TF_CONFIG says, and steps that are handed out to workers."""

import json
import types

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.training import cluster
from recap_tf.core.training.loop import Event, run_loop
from recap_tf.core.training.stopping import Stop
from recap_tf.core.training.worker_steps import WorkerSteps

CLUSTER = {"chief": ["a:1"], "worker": ["b:1", "b:2"], "ps": ["c:1"]}


def config(kind="ps", index=0, **others):
    return {"cluster": CLUSTER | others, "task": {"type": kind, "index": index}}


def test_a_task_is_what_tf_config_says(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", json.dumps(config("worker", 1)))
    task = cluster.read_task()
    assert (task.kind, task.index, task.address) == ("worker", 1, "b:2")
    assert task.serves and not cluster.Task("chief", 0, CLUSTER).serves


@pytest.mark.parametrize(
    "text, message",
    [
        ("", r'"parameter_server" needs the environment variable TF_CONFIG.*not set\.'),
        ("{", r"needs the environment variable TF_CONFIG = .* Received: \{$"),
        ('{"cluster": {}}', r"needs the environment variable TF_CONFIG"),
        (config(ps=[]), r"must list a ps: cluster.ps = .* Received: \[\]"),
        (config(worker=None), r"must list a worker: .* Received: None"),
        (config(ps=["c"]), r"addresses host:port. Received: \['c'\]"),
        (config(chief=["a:1", "a:2"]), r"must list one chief. Received: 2"),
        (
            config("boss"),
            r"task.type must be one of \['chief', 'worker', 'ps'\]. .*'bo",
        ),
        (config("ps", 1), r"task.index must be below 1, .* ps tasks, .* Received: 1"),
        (config("worker", -1), r"task.index must be below 2, .* Received: -1"),
    ],
)
def test_an_unfit_tf_config_is_one_line(monkeypatch, text, message):
    text = text if isinstance(text, str) else json.dumps(text)
    monkeypatch.setenv("TF_CONFIG", text)
    with pytest.raises(UserError, match=message):
        cluster.read_task()


def test_the_chief_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(cluster, "_LONGEST_WAIT_SECONDS", 0)
    lists = {"chief": ["localhost:1"], "worker": ["localhost:1"], "ps": ["localhost:1"]}
    with pytest.raises(UserError, match=r"ps 0 does not answer at localhost:1."):
        cluster.connect(cluster.Task("chief", 0, lists))


@pytest.mark.parametrize(
    "kind, text, expected",
    [
        (tf.errors.UnavailableError, "remote target /job:ps/task:1", True),
        (tf.errors.UnavailableError, "gs://bucket: try again", False),
        (tf.errors.InvalidArgumentError, "/job:ps/task:0 unknown device", True),
        (tf.errors.InvalidArgumentError, "/job:ps/task:0 indices[3] = 99", False),
        (tf.errors.DataLossError, "/job:ps: corrupted record", False),
    ],
)
def test_a_lost_server_is_told_from_other_errors(kind, text, expected):
    assert cluster.is_lost_server(kind(None, None, text)) == expected


class Coordinator:
    """A cluster of one process, which takes what is scheduled in turns."""

    def __init__(self, strategy):
        self.scheduled, self.sizes = [], []

    def schedule(self, run, args):
        self.scheduled.append((run, args))
        return len(self.scheduled) - 1

    def join(self):
        self.results = [run(*args) for run, args in self.scheduled]
        self.sizes.append([int(args[1]) for _, args in self.scheduled])
        self.scheduled = []

    def fetch(self, numbers):
        return [[np.asarray(v) for v in self.results[number]] for number in numbers]


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setattr(tf.distribute.coordinator, "ClusterCoordinator", Coordinator)
    return WorkerSteps(types.SimpleNamespace(num_replicas_in_sync=1), workers=3)


def test_workers_share_the_steps_of_a_call(steps):
    means = []
    done = run_loop(
        lambda iterator: tf.cast(iterator.get_next(), tf.float32)[tf.newaxis],
        iter(tf.data.Dataset.range(1000)),
        ["loss"],
        first=0,
        last=60,
        events=[Event(20, lambda step, losses: means.append((step, losses["loss"])))],
        stop=Stop(),
        spread=steps,
    )
    assert done == 60
    # Every batch once: the means of 0 to 19, 20 to 39 and 40 to 59.
    assert means == [(20, 9.5), (40, 29.5), (60, 49.5)]
    sizes = steps._coordinator.sizes
    assert sum(map(sum, sizes)) == 60
    assert max(map(len, sizes)) == 6 and all(max(s) - min(s) <= 1 for s in sizes)


def test_a_loss_that_is_not_finite_is_found_on_any_worker(steps):
    with pytest.raises(UserError, match=r"loss is -inf. No checkpoint was made"):
        run_loop(
            lambda iterator: tf.math.log(
                tf.cast(abs(30 - iterator.get_next()), tf.float32)[tf.newaxis]
            ),
            iter(tf.data.Dataset.range(1000)),
            ["loss"],
            first=0,
            last=1000,
            events=[],
            stop=Stop(),
            spread=steps,
        )


def test_a_worker_has_one_gpu():
    strategy = types.SimpleNamespace(num_replicas_in_sync=2)
    with pytest.raises(UserError, match=r"A worker must have one GPU .* Received: 2"):
        WorkerSteps(strategy, workers=3)
