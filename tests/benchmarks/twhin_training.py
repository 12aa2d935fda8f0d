"""Edges per second of the whole trainer, against a torch program of the same.

    python tests/benchmarks/twhin_training.py --torch /path/to/python-with-torch

Both sides: tables of 424,241 and 72,543 rows, four relations, translations, 10 in-batch
negatives per side, logistic loss, SGD, two threads; turn by turn, medians. Ours is
`python -m twhin_tf.train` as a user runs it: edges from files, metrics, logs and a
checkpoint at the end; its figure is what it logs. The torch side (beside this file)
takes its edges from memory and logs nothing.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

import twhin_tf  # noqa: F401

# isort: split
import numpy as np
import tensorflow as tf

from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType, Relation, write_graph

ROWS = (424_241, 72_543)
RELATIONS = ("fav", "reply", "retweet", "magic_recs")
EDGES = 2_000_000
HERE = pathlib.Path(__file__).parent

CONFIG = """
include "twhin_tf/graph.gin"
twhin.embedder.graph = "{here}"
twhin.embedder.negatives = [@InBatchNegatives()]
InBatchNegatives.count = 10
twhin.embedder.mask_known = "nothing"  # as the torch side
twhin.embedder.loss = @LogisticLoss()
NodeTable.optimizer = @SparseSGD
NodeTable.learning_rate = 0.01
twhin.embedder.relation_optimizer = @SparseSGD
twhin.embedder.relation_learning_rate = 0.05
twhin.train.checkpoint_every = 1000000
"""


def make_data(folder: pathlib.Path) -> None:
    """Writes uniformly random edges: no row is more often in a cache than another."""
    random = np.random.default_rng(0)
    edges = np.stack(
        [
            random.integers(ROWS[0], size=EDGES),
            random.choice(len(RELATIONS), size=EDGES, p=[0.5, 0.2, 0.2, 0.1]),
            random.integers(ROWS[1], size=EDGES),
        ],
        axis=1,
    )
    np.save(folder / "edges.npy", edges.astype(np.int32))
    types = zip(("user", "tweet"), ROWS, strict=True)
    graph = Graph(
        folder=str(folder),
        types={name: NodeType(name=name, rows=rows) for name, rows in types},
        relations=[Relation(name=n, lhs="user", rhs="tweet") for n in RELATIONS],
        splits={"train": EDGES},
    )
    write_graph(graph)
    write_edges(graph, "train", 0, edges)
    (folder / "graph.gin").write_text(CONFIG)


def trainer_rate(
    folder: pathlib.Path, dim: int, batch: int, seconds: float, extra: list[str]
) -> float:
    """Runs the trainer; returns its edges per second, the first quarter left out."""
    steps = int(seconds * (400_000 if dim > 16 else 2_500_000) / batch) // 8 * 8
    with tempfile.TemporaryDirectory() as run:
        settings = {
            "twhin.train.save_dir": repr(run),
            "twhin.embedder.dim": dim,
            "twhin.train.batch_size": batch,
            "twhin.train.steps": steps,
            "twhin.train.log_every": steps // 8,
        }
        command = [sys.executable, "-m", "twhin_tf.train"]
        command += ["--config", str(folder / "graph.gin")]
        command += [f"--set={name}={value}" for name, value in settings.items()]
        command += [f"--set={binding}" for binding in extra]
        subprocess.run(command, check=True, capture_output=True)
        rates = []
        for path in pathlib.Path(run, "tensorboard/train").glob("events*"):
            for event in tf.compat.v1.train.summary_iterator(str(path)):
                for value in event.summary.value:
                    if value.tag == "speed/edges_per_second":
                        rates.append(float(tf.make_ndarray(value.tensor)))
    return statistics.median(rates[2:])


def torch_rate(
    python: str, folder: pathlib.Path, dim: int, batch: int, seconds: float
) -> float:
    """Runs the torch program; returns its edges per second."""
    command = [python, str(HERE / "twhin_training_torch.py")]
    command += ["--edges", str(folder / "edges.npy"), "--rows", *map(str, ROWS)]
    command += ["--dim", str(dim), "--batch", str(batch), "--seconds", str(seconds / 3)]
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    # Threads that spin while they wait are faster on an idle machine, many times slower
    # on a busy one: the better of both.
    rates = []
    for policy in ("active", "passive"):
        done = subprocess.run(
            command,
            check=True,
            capture_output=True,
            text=True,
            env=environment | {"OMP_WAIT_POLICY": policy},
        )
        rates.append(statistics.median(json.loads(done.stdout)))
    return max(rates)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--torch", metavar="PYTHON", help="an interpreter with torch")
    parser.add_argument("--dims", type=int, nargs="+", default=[4, 128])
    parser.add_argument("--batches", type=int, nargs="+", default=[500, 4096])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=9.0, help="of each run")
    parser.add_argument("--set", action="append", default=[], help="for our side")
    arguments = parser.parse_args()
    if arguments.torch is not None:
        probe = [arguments.torch, "-c", "import torch, numpy"]
        if subprocess.run(probe, capture_output=True, check=False).returncode:
            sys.exit(
                f"--torch {arguments.torch} cannot import torch and numpy; in a venv "
                "of its own: pip install torch==2.13.0 numpy"
            )
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        make_data(folder)
        for dim in arguments.dims:
            for batch in arguments.batches:
                rates = {"ours": [], "torch": []}
                for _ in range(arguments.rounds):
                    rates["ours"].append(
                        trainer_rate(
                            folder, dim, batch, arguments.seconds, arguments.set
                        )
                    )
                    if arguments.torch is not None:
                        rates["torch"].append(
                            torch_rate(
                                arguments.torch, folder, dim, batch, arguments.seconds
                            )
                        )
                middle = {k: statistics.median(v) for k, v in rates.items() if v}
                line = f"dim {dim:3d}, batch {batch:4d}: ours {middle['ours']:,.0f}"
                if "torch" in middle:
                    ratio = middle["ours"] / middle["torch"]
                    line += f", torch {middle['torch']:,.0f} edges/s: {ratio:.2f}x"
                print(line, flush=True)


if __name__ == "__main__":
    main()
