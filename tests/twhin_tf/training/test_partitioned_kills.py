"""A run whose tables are on disk, killed without notice, goes on with the same bits."""

import pathlib
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.training import checkpoints
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses, write_graph
from twhin_tf.training.partitioned_checkpoints import read_partitions_state

# Neither is a multiple of 7: some partitions are a row shorter than others.
USERS, ITEMS, PARTITIONS = 200, 50, 7
KILLER = """
import os, signal, sys
from recap_tf.core.training import checkpoints, loop, nan_stop
from recap_tf.core import files
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.training.stopping import Stop
from twhin_tf.partitions import partitioned_edges
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.partitions.partition_buffer import PartitionBuffer
from twhin_tf.partitions.partition_files import PartitionFiles
from twhin_tf.training.trainer import GraphTrainer
from twhin_tf.partitions.partition_layout import Partitions
from twhin_tf.settings import Embedder, TrainSettings

graph, save_dir, where, at = sys.argv[1:]
at, calls = int(at), 0

def die():
    os.kill(os.getpid(), signal.SIGKILL)

def dying(owner, name, kill):
    "Calls kill(plain, *arguments) in place of the call of that number."
    plain = getattr(owner, name)
    def call(*arguments, **settings):
        global calls
        calls += 1
        if calls == at:
            kill(plain, *arguments, **settings)
            die()
        return plain(*arguments, **settings)
    setattr(owner, name, call)

def half(plain, self, name, partition, chunks):
    def parts():
        for records in chunks:
            yield records[: len(records) // 2]
            die()
    plain(self, name, partition, parts())

if where == "step":
    loop._MOST_STEPS_PER_CALL = 1
    dying(nan_stop, "check_finite", lambda plain, *rest: None)
elif where == "edges":
    dying(partitioned_edges, "_sort", lambda plain, *rest: plain(*rest))
elif where == "partition":
    dying(PartitionFiles, "write", half)
elif where == "swap":
    dying(PartitionBuffer, "_bring_in", lambda plain, *rest: None)
elif where in ("partitions.json", "checkpoint.json"):
    write = files.write_text
    def written(path, text):
        global calls
        calls += "/.partial-step-" in path and path.endswith(where)
        if calls == at:
            die()
        write(path, text)
    files.write_text = written
elif where == "files":
    dying(PartitionFiles, "remove_all_but", lambda plain, *rest: None)
elif where == "file":
    dying(os, "remove", lambda plain, path: plain(path))
elif where == "old checkpoint":
    remove = checkpoints.tf.io.gfile.remove
    dying(checkpoints, "_delete", lambda plain, path: remove(f"{path}/checkpoint.json"))

table = NodeTable(
    optimizer=LazyAdam,
    learning_rate=0.05,
    initializer={"class_name": "RandomNormal", "config": {"stddev": 0.1}},
)
embedder = Embedder(graph=graph, dim=4, table=table, negatives=[GlobalNegatives(200)])
settings = TrainSettings(
    save_dir=save_dir,
    batch_size=50,
    steps=90,
    checkpoint_every=6,
    checkpoints_to_keep=2,
    partitions=Partitions(count=7, buffer=3, chunks=4),
)
GraphTrainer(embedder, settings, config="").run(Stop())
"""


@pytest.fixture
def graph(tmp_path) -> Graph:
    rng = np.random.default_rng(0)
    users, items = rng.integers(USERS, size=3000), rng.integers(ITEMS, size=3000)
    made = Graph(
        folder=str(tmp_path / "graph"),
        types={
            "user": NodeType(name="user", rows=USERS),
            "item": NodeType(name="item", rows=ITEMS),
        },
        relations=with_inverses([Relation(name="buy", lhs="user", rhs="item")]),
        splits={"train": 3000},
    )
    write_graph(made)
    write_edges(made, "train", 0, np.stack([users, 0 * users, items], axis=1))
    return made


def run(graph: Graph, folder: pathlib.Path, where="never", at=0) -> int:
    command = [sys.executable, "-c", KILLER, graph.folder, str(folder), where, str(at)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr[-2000:]
    return done.returncode


def rows_and_state(folder: pathlib.Path) -> dict[str, bytes | np.ndarray]:
    """What the last checkpoint holds, and the partitions that it refers to."""
    path = checkpoints.list_checkpoints(str(folder))[-1]
    reader = tf.train.load_checkpoint(f"{path}/state")
    skipped = ("_CHECKPOINTABLE_OBJECT_GRAPH", "save_counter")
    found = {
        name: reader.get_tensor(name)
        for name in reader.get_variable_to_shape_map()
        if not name.startswith(skipped)
    }
    for name, versions in read_partitions_state(path).versions.items():
        for partition, version in enumerate(versions):
            file = f"{partition:05d}-{version:06d}.bin"
            own = folder / "partitions" / name / file
            found[f"{name}/{partition}"] = own.read_bytes() if version else b""
    return found


KILLS = [
    ("edges", 1),
    ("partition", 2),  # in the first swap: there is no checkpoint yet
    ("step", 9),
    ("swap", 5),
    ("partition", 4),
    ("partition", 9),  # of a checkpoint and of swaps
    ("partitions.json", 1),
    ("checkpoint.json", 2),
    ("files", 3),
    ("file", 5),
    ("old checkpoint", 1),
    ("step", 2),
]


@pytest.mark.slow
def test_a_run_killed_anywhere_ends_the_same(graph, tmp_path):
    assert run(graph, tmp_path / "whole") == 0
    steps = []
    for where, at in KILLS:
        assert run(graph, tmp_path / "killed", where, at) == -signal.SIGKILL
        found = checkpoints.list_checkpoints(str(tmp_path / "killed"))
        steps.append(checkpoints.step_of(found[-1]) if found else 0)
    assert run(graph, tmp_path / "killed") == 0
    # They died before the first checkpoint and on the way between others.
    assert steps[0] == 0
    assert len(set(steps)) > 4
    one, other = (rows_and_state(tmp_path / name) for name in ("whole", "killed"))
    assert one.keys() == other.keys()
    for name, value in one.items():
        np.testing.assert_array_equal(value, other[name], err_msg=name)
    # No file is left of those that nothing refers to.
    for pattern in ("partitions/*/*.bin", "partitions/.partial-*", "checkpoints/*"):
        counts = {
            name: len(list((tmp_path / name).glob(pattern)))
            for name in ("whole", "killed")
        }
        assert counts["whole"] == counts["killed"], pattern
