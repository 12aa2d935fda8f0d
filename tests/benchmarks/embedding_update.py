"""Does an update's cost grow with the table?

python tests/benchmarks/embedding_update.py

Trains a small ranker-like net on one bag of 10 ids per example, the same number of
different rows per batch on both sides, on a table of 10 thousand and on one of 10
million rows, in turns, and prints the median seconds of a training step of both. The
large side wants up to 8 GB (Adam: the table and two more of its size).
"""

import argparse
import subprocess
import sys
import time

import recap_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)

# isort: split
import numpy as np
import tensorflow as tf

from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.optimizers.grouped import Adam, GroupedOptimizer
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD
from recap_tf.model.mlp import MLP

OPTIMIZERS = (SparseSGD, SparseAdagrad, RowWiseAdagrad, LazyAdam, SparseFTRL)
BATCHES = 32
# Short turns, so that what else the machine does meets both sides alike.
TURNS, STEPS = 120, 4


class Side:
    """A net with one table, its optimizer and its batches."""

    def __init__(self, arguments, rows: int, optimizer):
        spec = TableSpec(
            name="ids",
            rows=rows,
            dim=arguments.dim,
            features=["ids"],
            optimizer=optimizer,
        )
        self.tables, self.net = EmbeddingTables([spec]), MLP(arguments.net)
        random = np.random.default_rng(0)
        batch, ids = arguments.batch, arguments.ids
        every = np.stack(
            [random.choice(rows, batch * ids, replace=False) for _ in range(BATCHES)]
        )
        self.ids = tf.constant(every.reshape(BATCHES, batch, ids))
        self.dense = tf.constant(random.normal(size=(batch, 256)), tf.float32)
        self.labels = tf.constant(random.integers(0, 2, (batch, 1)), tf.float32)
        self._loss(0)
        groups = {"net": (Adam(1e-3), self.net.trainable_weights)}
        self.optimizer = GroupedOptimizer(groups | self.tables.optimizers())
        self.optimizer.create_slots()
        self.train = tf.function(self._train)
        self.seconds: list[float] = []

    def _loss(self, step) -> tf.Tensor:
        vectors = self.tables({"ids": self.ids[step % BATCHES]}, training=True)["ids"]
        logits = self.net(tf.concat([self.dense, vectors], axis=1), training=True)
        return tf.reduce_mean(
            tf.nn.sigmoid_cross_entropy_with_logits(labels=self.labels, logits=logits)
        )

    def _train(self, step) -> tf.Tensor:
        weights = self.tables.trainable_weights + self.net.trainable_weights
        with tf.GradientTape() as tape:
            loss = self._loss(step)
        gradients = tape.gradient(loss, weights)
        self.optimizer.apply_gradients(zip(gradients, weights, strict=True))
        return loss

    def run(self, steps: int, measured: bool, first: int = 0) -> None:
        for step in range(first, first + steps):
            started = time.perf_counter()
            self.train(tf.constant(step)).numpy()
            if measured:
                self.seconds.append(time.perf_counter() - started)


def measure(arguments, optimizer) -> None:
    sides = [Side(arguments, rows, optimizer) for rows in arguments.rows]
    for side in sides:
        side.run(BATCHES, measured=False)
    for turn in range(TURNS):
        for side in sides:
            side.run(STEPS, measured=True, first=turn * STEPS)
    small, large = (float(np.median(side.seconds)) for side in sides)
    print(
        f"{optimizer.__name__:16} {small * 1e3:7.2f} ms {large * 1e3:7.2f} ms "
        f"{large / small:14.2f}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs=2, default=[10_000, 10_000_000])
    parser.add_argument("--dim", type=int, default=64)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--ids", type=int, default=10, help="per example")
    parser.add_argument("--net", type=int, nargs="+", default=[512, 256, 1])
    names = [one.__name__ for one in OPTIMIZERS]
    parser.add_argument("--optimizer", choices=names, help="this one alone")
    arguments = parser.parse_args()
    if arguments.optimizer:
        measure(arguments, OPTIMIZERS[names.index(arguments.optimizer)])
        return
    print(f"{'optimizer':16} {'small':>10} {'large':>10} {'large / small':>14}")
    sys.stdout.flush()
    for name in names:
        # A process each: it takes its tables with it.
        subprocess.run([sys.executable, *sys.argv, "--optimizer", name], check=True)


if __name__ == "__main__":
    main()
