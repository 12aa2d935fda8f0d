"""Training on two devices: this machine's processor, taken for two."""

import json
import subprocess
import sys

import numpy as np
import pytest

from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType, Relation, write_graph

TRAINING = """
import json, sys
import recap_tf
import tensorflow as tf
(cpu,) = tf.config.list_physical_devices("CPU")
two = [tf.config.LogicalDeviceConfiguration()] * 2
tf.config.set_logical_device_configuration(cpu, two)
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.training.logs import Logs
from recap_tf.core.training.stopping import Stop
from twhin_tf.model.losses import SoftmaxLoss
from twhin_tf.model.global_negatives import GlobalNegatives
from twhin_tf.model.node_tables import NodeTable
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.trainer import GraphTrainer
from twhin_tf.model.warm_start import WarmStart
graph, save_dir, storage = sys.argv[1:]
warm = WarmStart(checkpoint=save_dir, graph=graph, drift=0.01)
losses = []
Logs.write = lambda self, run, step, values: losses.append(values["loss"])
for run, warm_start in (("", None), ("-warm", warm)):
    table = NodeTable(optimizer=LazyAdam, learning_rate=0.05, storage=storage)
    embedder = Embedder(
        graph=graph, dim=8, table=table, negatives=[GlobalNegatives(30)],
        loss=SoftmaxLoss(),
    )
    settings = TrainSettings(
        save_dir=save_dir + run, batch_size=50, steps=100, strategy="mirrored",
        log_every=50, warm_start=warm_start,
    )
    trainer = GraphTrainer(embedder, settings, config="")
    trainer.run(Stop())
first, second = (v.numpy() for v in trainer.model.tables["node"].values)
print(json.dumps([losses, bool((first == second).all())]))
"""


@pytest.mark.slow
@pytest.mark.parametrize("storage", ["float32", "bfloat16"])
def test_two_devices_train_the_same_tables(tmp_path, storage):
    graph = Graph(
        folder=str(tmp_path / "graph"),
        types={"node": NodeType(name="node", rows=60)},
        relations=[Relation(name="link", lhs="node", rhs="node")],
        splits={"train": 600},
    )
    (tmp_path / "graph").mkdir()
    write_graph(graph)
    pairs = [[a, 0, b] for a in range(60) for b in range(a % 6, 60, 6)]
    write_edges(graph, "train", 0, np.array(pairs))
    command = [sys.executable, "-c", TRAINING, graph.folder, str(tmp_path / "run")]
    done = subprocess.run([*command, storage], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    (start, end, warm, _), same = json.loads(done.stdout.splitlines()[-1])
    assert same
    assert end < 0.8 * start
    assert warm < 0.8 * start  # The second run goes on where the first one ended.
