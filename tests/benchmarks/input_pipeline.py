"""What reading gzip TFRecords costs a training step, against batches in memory.

    python tests/benchmarks/input_pipeline.py --config configs/recap.gin

Both sides run the same steps of the same model by turns; the medians' ratio is
printed. The config's data must be there (recap_tf.train makes the synthetic one).
"""

import argparse
import statistics
import time

import tensorflow as tf

from recap_tf import settings
from recap_tf.core.arguments import add_config
from recap_tf.core.config import gin_config
from recap_tf.data.record_batches import Mode, read_batches
from recap_tf.training.building import build_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    add_config(parser)
    parser.add_argument("--steps", type=int, default=20, help="steps per turn")
    parser.add_argument("--turns", type=int, default=7, help="turns of each side")
    arguments = parser.parse_args()
    gin_config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker, batch_size = settings.Ranker(), settings.TrainSettings().batch_size
    model = build_model(ranker)
    optimizer = ranker.optimizer(model.parameter_groups())
    optimizer.create_slots()

    @tf.function
    def train(iterator, steps):
        for _ in tf.range(steps):
            features, labels, weights = next(iterator)
            with tf.GradientTape() as tape:
                logits = model(features, training=True)["logits"]
                loss, _ = ranker.loss(model.tasks, labels, logits, weights)
            gradients = tape.gradient(loss, model.trainable_weights)
            optimizer.apply_gradients(
                zip(gradients, model.trainable_weights, strict=True)
            )

    def batches():
        return read_batches(ranker.train_data, ranker.tasks, Mode.TRAIN, batch_size)

    sides = {
        "gzip TFRecords": iter(batches()),
        "memory": iter(batches().take(8).cache().repeat()),
    }
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(arguments.turns + 1):
        for name, iterator in sides.items():
            start = time.perf_counter()
            train(iterator, tf.constant(arguments.steps))
            seconds = (time.perf_counter() - start) / arguments.steps
            if turn:  # The first one traces the graph and fills the buffers.
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, seconds in medians.items():
        print(f"{name}: {seconds * 1e3:.1f} ms per step, {batch_size / seconds:,.0f}/s")
    cost = medians["gzip TFRecords"] / medians["memory"] - 1
    print(f"reading costs {cost:+.1%} per step")


if __name__ == "__main__":
    main()
