"""How fast edges are converted and read, at the size of the released example.

    python tests/benchmarks/twhin_edges.py --folder bench/twhin_edges

Makes the made-up graph of configs/twhin.gin's size in the folder, once.
"""

import argparse
import pathlib
import statistics
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2]))

import twhin_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)

# isort: split
import pyarrow as pa
import pyarrow.parquet as pq
import tensorflow as tf

from twhin_tf import synthetic, vocabulary
from twhin_tf.graph.edge_batches import (
    Edges,
    edges_per_epoch,
    read_edge_batches,
    read_edges,
)
from twhin_tf.graph.graph import read_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=pathlib.Path, required=True)
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[500, 4096])
    parser.add_argument("--edges", type=int, default=8_000_000, help="read per run")
    parser.add_argument("--runs", type=int, default=5)
    arguments = parser.parse_args()
    folder = str(arguments.folder / "graph")
    synthetic.main(["--out", folder])
    graph = read_graph(folder)
    _convert(arguments.folder, graph)
    start = time.perf_counter()
    per_epoch = edges_per_epoch(Edges(), graph)
    print(f"packing, unless done: {time.perf_counter() - start:.1f} s")
    print(f"{per_epoch:,} edges per epoch, inverse ones included")
    for batch_size in arguments.batch_sizes:
        rates = _read(graph, batch_size, arguments.edges, arguments.runs)
        shown = ", ".join(f"{rate / 1e6:.1f}" for rate in rates)
        median = statistics.median(rates) / 1e6
        print(f"batch {batch_size}: {median:.1f} M edges/s (runs: {shown})")


def _convert(folder: pathlib.Path, graph) -> None:
    """Times `twhin_tf.vocabulary` on the same edges, with ids that are texts."""
    raw = folder / "raw.parquet"
    if not raw.exists():
        lhs, rel, rhs = read_edges(Edges(), graph).T
        columns = {
            "head": pa.array([f"user:{row}" for row in lhs.tolist()]),
            "relation": pa.array([graph.relations[r].name for r in rel.tolist()]),
            "tail": pa.array([f"tweet:{row}" for row in rhs.tolist()]),
        }
        pq.write_table(pa.table(columns), raw)
    edges = pq.read_metadata(raw).num_rows
    start = time.perf_counter()
    flags = ["--type-prefix", ":", "--split", "0.98,0.01,0.01", "--overwrite"]
    vocabulary.main(["--edges", str(raw), "--out", str(folder / "converted"), *flags])
    seconds = time.perf_counter() - start
    print(f"converting: {edges / seconds / 1e6:.2f} M edges/s, both passes and splits")


def _read(graph, batch_size: int, edges: int, runs: int) -> list[float]:
    """Times some runs of reading; returns the edges per second of each."""
    iterator = iter(read_edge_batches(Edges(), graph, batch_size))

    @tf.function
    def read(steps):
        # Something that needs every batch.
        total = tf.constant(0)
        for _ in tf.range(steps):
            total += tf.reduce_max(next(iterator))
        return total

    steps = edges // batch_size
    read(tf.constant(steps // 10))
    rates = []
    for _ in range(runs):
        start = time.perf_counter()
        read(tf.constant(steps)).numpy()
        rates.append(steps * batch_size / (time.perf_counter() - start))
    return rates


if __name__ == "__main__":
    main()
