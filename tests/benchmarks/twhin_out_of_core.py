"""Node tables on disk against the same in memory: memory, speed, link prediction.

    python tests/benchmarks/twhin_out_of_core.py --folder bench/out_of_core

Makes a graph with communities up, trains it in memory and then with a limit of a fourth
of what its rows and their optimizer's state take, each in a process of its own, and
prints the most memory of each process, edges per second of training, and the MRR of
held-out edges; first of one step with a sixteenth, which shows what TensorFlow takes.
"""

import argparse
import json
import os
import pathlib
import subprocess
import sys
import time

import twhin_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)
from twhin_tf.synthesis.synthetic_graph import SyntheticGraph, make_graph

CONFIG = """
include "twhin_tf/graph.gin"
twhin.embedder.graph = "{folder}/graph"
twhin.embedder.dim = {dim}
twhin.train.batch_size = 2000
twhin.train.steps = {steps}
twhin.train.checkpoint_every = {steps}
twhin.train.save_dir = "{folder}/{name}"
twhin.evaluate.limit = 5000
{more}
"""
LIMIT = """
twhin.train.partitions = @Partitions()
Partitions.memory_limit_mb = {limit}
"""


def run(folder: pathlib.Path, name: str, arguments, more: str = "") -> dict:
    """Trains and evaluates; returns what it took, and the MRR."""
    steps = 1 if name == "least" else arguments.steps
    config = folder / f"{name}.gin"
    config.write_text(
        CONFIG.format(
            folder=folder, name=name, dim=arguments.dim, steps=steps, more=more
        )
    )
    command = [sys.executable, "-m", "twhin_tf.train", "--config", str(config)]
    started = time.monotonic()
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} failed: see {folder / name}.log")
    report = json.loads((folder / name / "evaluation.json").read_text())
    checkpoint = folder / name / "checkpoints" / f"step-{steps:08d}" / "checkpoint.json"
    active = json.loads(checkpoint.read_text())["active_seconds"]
    return {
        "peak_mb": usage.ru_maxrss * 1024 / 1e6,
        "edges_per_second": 2000 * steps / active,
        "seconds": time.monotonic() - started,
        "mrr": report["overall"]["both"]["mrr"],
    }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", required=True, type=pathlib.Path)
    parser.add_argument("--nodes", type=int, default=300_000)
    parser.add_argument("--edges", type=int, default=3_000_000)
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--steps", type=int, default=6000)
    arguments = parser.parse_args()
    folder = arguments.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    users, items = arguments.nodes * 2 // 3, arguments.nodes // 3
    graph = SyntheticGraph(
        folder=str(folder / "graph"),
        nodes={"user": users, "item": items},
        relations={"buy": ("user", "item", arguments.edges, 0.9)},
    )
    make_graph(graph, print)
    # Adagrad keeps as many numbers as a vector has.
    megabytes = arguments.nodes * arguments.dim * 8 / 1e6
    limit = LIMIT.format(limit=megabytes / 4)
    print(f"Rows and state: {megabytes:,.0f} MB; limit {megabytes / 4:,.0f} MB.")
    print(f"{'':10} {'peak MB':>9} {'edges/s':>10} {'seconds':>8} {'MRR':>7}")
    for name, more in (("least", limit), ("memory", ""), ("partitions", limit)):
        if name == "least":
            more = LIMIT.format(limit=megabytes / 16)
        took = run(folder, name, arguments, more)
        print(
            f"{name:10} {took['peak_mb']:9,.0f} {took['edges_per_second']:10,.0f} "
            f"{took['seconds']:8.0f} {took['mrr']:7.4f}"
        )


if __name__ == "__main__":
    main()
