"""What each preprocessing step and the position layer do to a trained model.

    python tests/benchmarks/preprocessing_effects.py
    python tests/benchmarks/preprocessing_effects.py --census data/census

The first trains variants of configs/recap_logs.gin on the log that it makes, the second
of configs/census.gin on data converted as README.md says. Every variant trains with the
same seeds and is scored on all of one untouched set; printed is the mean over the seeds
and its standard error, beside the spread of AUROC that the set's size alone allows.
"""

import argparse
import pathlib
import sys
import tempfile
from collections.abc import Mapping, Sequence

import recap_tf  # noqa: F401  (chooses Keras 2, so before TensorFlow)

# isort: split
import numpy as np
import tensorflow as tf
import tf_keras as keras
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from recap_tf import settings
from recap_tf.core.config import gin_config
from recap_tf.core.training.stopping import catch_signals
from recap_tf.data import record_files
from recap_tf.data.record_batches import Mode, Records, read_batches
from recap_tf.data.record_writer import open_record_files, part_paths
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.metrics.auroc import weighted_auroc
from recap_tf.training.made_sets import make_synthetic_data
from recap_tf.training.trainer import RankerTrainer

CONFIGS = pathlib.Path(__file__).parents[2] / "configs"
Overrides = Sequence[str]
WITHOUT = "train/Records.preprocess = [{}]".format
STEPS = ["DownsampleNegatives", "TruncateAndSlice", "RectifyLabels", "ExtractFeatures"]


def without(step: str) -> str:
    return WITHOUT(", ".join(f"@{name}()" for name in STEPS if name != step))


LOGS: Mapping[str, Mapping[str, Overrides]] = {
    "Downsampled negatives": {
        "5 batches of 128 to one": [],
        "all of them, batch 640": [
            without("DownsampleNegatives"),
            "recap.train.batch_size = 640",
        ],
        "all of them, batch 128": [without("DownsampleNegatives")],
    },
    "Late labels; scored by the labels in time": {
        "taken back (RectifyLabels)": [],
        "left as they are": [without("RectifyLabels")],
    },
    "Dated folders; what matters drifts by 60 degrees in 14 days": {
        f"the last {days} days": [f"DatedFolders.length = {days}"]
        for days in (14, 7, 3)
    },
    "Shown positions, an extracted column; scored in random order": {
        "not told": ["RankingModel.position_debias = None"],
        "told, half of them hidden": [],
        "told, none hidden": ["PositionDebias.drop_probability = 0.0"],
    },
    "Mantissa bits zeroed in all float features (made with 7 of 23)": {
        str(bits): [
            "Records.masked_mantissa_bits = {"
            + ", ".join(
                f"'{name}': {bits}"
                for name in (
                    "continuous",
                    "user_embedding",
                    "user_eng_embedding",
                    "author_embedding",
                )
            )
            + "}"
        ]
        for bits in (0, 20, 22)
    },
}
INCOME = [
    "recap.ranker.tasks = ['income']",
    "recap.train.steps = 400",
    "LinearRampToCosine.final_steps = 400",
    "recap.train.batch_size = 256",
]


def census(folder: str, sampled: str) -> Mapping[str, Mapping[str, Overrides]]:
    fewer = [
        f"train/Records.files = '{sampled}/*.gz'",
        "train/Records.sampling_rates = {'income': (1.0, 0.1)}",
        "recap.train.batch_size = 400",
    ]
    ten = [
        "train/Records.preprocess = [@DownsampleNegatives()]",
        "DownsampleNegatives.batch_multiplier = 10",
        "DownsampleNegatives.engagements = ['income']",
    ]
    return {
        "Downsampled negatives, income; 400 steps of about 159 positives": {
            "all negatives, batch 2560": ["recap.train.batch_size = 2560"],
            "10 batches of 256 to one": ten,
            "files keep 10 %, batch 400, weighted": fewer,
            "files keep 10 %, batch 400, undone in the model": [
                *fewer,
                "train/Records.weigh_by_sampling_rates = False",
            ],
            "all negatives, batch 256, 16 positives": [],
        },
        "Mantissa bits zeroed in `continuous`": {
            str(bits): [f"Records.masked_mantissa_bits = {{'continuous': {bits}}}"]
            for bits in (0, 8, 16, 20)
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--census", metavar="DIR", help="converted census data")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--only", default="", help="tables with this in the title")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.census:
            data = arguments.census
            sampled = f"{folder}/sampled"
            path, tables = CONFIGS / "census.gin", census(data, sampled)
            common = [
                *INCOME,
                f"Records.schema = '{data}/schema.json'",
                f"SmallEmbeddings.columns = '{data}/columns.json'",
                f"train/Records.files = '{data}/train-*'",
                f"test/Records.files = '{data}/test-*'",
            ]
            gin_config.load(str(path), common, roots=settings.ROOTS)
            keep_a_tenth(settings.Ranker().train_data, "income", sampled)
        else:
            path, tables = CONFIGS / "recap_logs.gin", LOGS
            common = ["recap.train.steps = 400"]
            gin_config.load(str(path), common, roots=settings.ROOTS)
            ranker = settings.Ranker()
            make_synthetic_data(ranker, ranker.synthetic_data, print)
        known: dict[tuple[str, ...], list[dict[str, float]]] = {}
        for title, variants in tables.items():
            if arguments.only.lower() not in title.lower():
                continue
            rows = {}
            for name, changes in variants.items():
                key = tuple(changes)
                if key not in known:
                    known[key] = [
                        measure(path, [*common, *changes], seed)
                        for seed in range(arguments.seeds)
                    ]
                rows[name] = known[key]
            show(title, rows)


def measure(path: pathlib.Path, overrides: Overrides, seed: int) -> dict[str, float]:
    """Trains one variant; its mean metrics over the tasks, on the first set."""
    with tempfile.TemporaryDirectory() as save_dir:
        gin_config.load(
            str(path),
            [
                *overrides,
                f"recap.train.save_dir = '{save_dir}'",
                f"recap.train.seed = {seed}",
                "recap.train.log_every = 50",
                "recap.evaluate.steps = 1",  # we look at the whole set ourselves
            ],
            roots=settings.ROOTS,
        )
        ranker = settings.Ranker()
        keras.backend.clear_session()
        trainer = RankerTrainer(
            ranker, settings.TrainSettings(), EvaluateSettings(), gin_config.operative()
        )
        with catch_signals(lambda text: print(text, file=sys.stderr)) as stop:
            trainer.run(stop)
        if stop:
            raise KeyboardInterrupt
        events = EventAccumulator(f"{save_dir}/tensorboard/train")
        events.Reload()
        speeds = [
            float(tf.make_ndarray(event.tensor_proto))
            for event in events.Tensors("speed/steps_per_second")
        ]
    score = tf.function(lambda x: trainer.model(x, training=False))
    records = ranker.validation_sets[0].records
    labels, predictions = [], []
    for features, truth, _ in read_batches(records, ranker.tasks, Mode.EVALUATE, 4096):
        labels.append(truth.numpy())
        predictions.append(score(features)["calibrated_probabilities"].numpy())
    found = metrics(np.concatenate(labels), np.concatenate(predictions))
    # The first entry holds the time of tracing.
    return found | {"steps/s": float(np.median(speeds[1:]))}


def metrics(labels: np.ndarray, predictions: np.ndarray) -> dict[str, float]:
    """Of (n, tasks) arrays, means over the tasks."""
    p = np.clip(predictions.astype(np.float64), 1e-7, 1 - 1e-7)
    log_loss = -np.mean(np.where(labels == 1, np.log(p), np.log1p(-p)))
    signs = np.where(labels == 1, np.float32(1.0), np.float32(-1.0))
    auroc = [
        float(weighted_auroc(tf.constant(scores), tf.constant(weights))[0])
        for scores, weights in zip(predictions.T, signs.T, strict=True)
    ]
    positives = labels.sum(axis=0)
    return {
        "AUROC": float(np.mean(auroc)),
        "calibration": float(np.mean(predictions.sum(axis=0) / positives)),
        "log loss": float(log_loss),
        "set": float(np.mean(hanley_mcneil(np.array(auroc), len(labels), positives))),
    }


def hanley_mcneil(a: np.ndarray, n: int, positives: np.ndarray) -> np.ndarray:
    """Standard error of an AUROC by the size of its set (Hanley and McNeil 1982)."""
    q1, q2 = a / (2 - a), 2 * a**2 / (1 + a)
    negatives = n - positives
    variance = a * (1 - a) + (positives - 1) * (q1 - a**2)
    variance += (negatives - 1) * (q2 - a**2)
    return np.sqrt(variance / (positives * negatives))


def show(title: str, rows: Mapping[str, Sequence[Mapping[str, float]]]) -> None:
    names = ["AUROC", "calibration", "log loss", "steps/s"]
    size = np.mean([one["set"] for runs in rows.values() for one in runs])
    print(f"\n{title}")
    print(f"(one AUROC is uncertain by {size:.4f}, the set's size)")
    print(f"{'':42}" + "".join(f"{name:>18}" for name in names))
    for row, runs in rows.items():
        cells = []
        for name in names:
            values = np.array([one[name] for one in runs])
            error = values.std(ddof=1) / np.sqrt(len(values)) if len(values) > 1 else 0
            digits = 1 if name == "steps/s" else 4
            cells.append(f"{values.mean():.{digits}f} ± {error:.{digits}f}")
        print(f"{row:42}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def keep_a_tenth(records: Records, label: str, folder: str) -> None:
    """Writes the records' files without nine of ten negatives of `label`."""
    spec = {label: tf.io.FixedLenFeature([1], tf.int64, [0])}
    rng = np.random.default_rng(7)
    with open_record_files(part_paths(folder, 16)) as output:
        for path in records.paths():
            serialized = record_files.open_records(path, record_files.compression(path))
            for batch in serialized.batch(4096):
                positive = tf.io.parse_example(batch, spec)[label][:, 0].numpy() == 1
                kept = positive | (rng.random(len(positive)) < 0.1)
                output.write(batch.numpy()[kept])


if __name__ == "__main__":
    main()
