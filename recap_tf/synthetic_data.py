"""Ranking data made up from a hidden model: record files, and how well they can be ranked."""

import concurrent.futures
import dataclasses
import json
import os
import posixpath
import threading
import zlib
from collections.abc import Callable, Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf
import tqdm

from recap_tf import hidden_model, record_writer
from recap_tf.core import files
from recap_tf.labels import SamplingRates
from recap_tf.schema import Schema
from recap_tf.synthetic_features import Requests, make_columns

MANIFEST = "synthetic.json"
_VERSION = 1  # of the generator: other numbers for the same settings need another one
_VALUES_AT_ONCE = 1 << 21


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticData:
    """What made-up data to make.

    Args:
        folder: where it goes; one folder per data set in it.
        examples: of the training set.
        validation_examples: of every other set.
        files: of the training set.
        validation_files: of every other set.
        seed: of the hidden model and of everything drawn.
        natural_rates: task -> share of positives in natural traffic.
        default_rate: that share for tasks that are not listed.
        candidates: fewest and most examples of one request, that is, of one user.
        used_columns: feature inside the model -> how many of its first columns the
            model sees, all where not listed; the labels depend on no other.
        vocabulary_size: ids of categorical features are below it.
    """

    folder: str
    examples: int = 100_000
    validation_examples: int = 10_000
    files: int = 16
    validation_files: int = 2
    seed: int = 1
    natural_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    default_rate: float = 0.02
    candidates: tuple[int, int] = (5, 30)
    used_columns: Mapping[str, int] = dataclasses.field(default_factory=dict)
    vocabulary_size: int = 100

    def __post_init__(self):
        for setting in ("examples", "validation_examples"):
            count = getattr(self, setting)
            count_files = getattr(self, setting.replace("examples", "files"))
            if count_files < 1 or count < count_files:
                raise ValueError(
                    f"SyntheticData.{setting} must be at least "
                    f"{setting.replace('examples', 'files')}, and both at least 1. "
                    f"Received: {count} examples in {count_files} files"
                )
        rates = {"default_rate": self.default_rate} | {
            f"natural_rates[{task!r}]": rate
            for task, rate in self.natural_rates.items()
        }
        for setting, rate in rates.items():
            if not 0.0 < rate < 1.0:
                raise ValueError(
                    f"SyntheticData.{setting} must be in (0, 1). Received: {rate}"
                )
        if not 1 <= self.candidates[0] <= self.candidates[1]:
            raise ValueError(
                "SyntheticData.candidates must be two counts, 1 <= fewest <= most. "
                f"Received: {self.candidates}"
            )
        if self.vocabulary_size < 2 or self.seed < 0:
            raise ValueError(
                "SyntheticData.vocabulary_size must be at least 2 and seed at least 0. "
                f"Received: {self.vocabulary_size} and {self.seed}"
            )


@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticSet:
    """One data set to make.

    Labels are drawn as if natural traffic had been sampled for each task at its rates
    (share of positives kept, share of negatives kept). Keeping an example with a
    chance that depends on its label alone multiplies the odds of a positive:

        logit(p_set) = logit(p_natural) + log(positives kept / negatives kept)

    and labels are drawn from p_set directly: nothing is rejected, and the features of
    all sets have the natural distribution, which for several tasks at once no real
    sampling could give. `labels.calibrate` of p_set with r = negatives kept /
    positives kept is p_natural exactly.

    Args:
        examples: how many.
        files: in how many files.
        sampling_rates: task -> the two shares; tasks that are not listed: all kept.
    """

    examples: int
    files: int
    sampling_rates: SamplingRates


def make_data(
    data: SyntheticData,
    schema: Schema,
    names: Mapping[str, str],
    tasks: Sequence[str],
    sets: Mapping[str, SyntheticSet],
    echo: Callable[[str], None] = print,
) -> dict:
    """Makes `data.folder`, or nothing if the same data is there already.

        <folder>/<set>/part-00000-of-00016.tfrecord.gz
        <folder>/synthetic.json

    The folder appears when all of it is complete. The same settings give the same
    bytes, however many cores make them.

    Args:
        schema: of the records. Besides the tasks' labels, features of one int64 that
            share the tasks' dotted prefix are labels too.
        names: feature -> its name inside the model, where it has another.
        tasks: the labels that a model learns.
        sets: name of a set, also of its folder -> what it is.
        echo: takes a few lines on each set that is done.

    Returns:
        The manifest, as in synthetic.json:
        {"settings": {...}, "sets": {set: {"examples", "files", "tasks": {task:
        {"positives", "sampling_rates", "best_auroc"}}}}}; best_auroc is None where
        all labels are equal.

    Raises:
        FileExistsError: the folder holds something else.
    """
    settings = _settings(data, schema, names, tasks, sets)
    manifest = read_manifest(data.folder)
    if manifest is not None and manifest["settings"] == settings:
        return manifest
    _check_free(data.folder, manifest, settings)
    generator = _Generator(data, schema, names, tasks)
    manifest = {"settings": settings, "sets": {}}
    total = sum(made.examples for made in sets.values())
    with (
        files.new_folder(data.folder) as aside,
        tqdm.tqdm(total=total, unit=" examples", unit_scale=True) as progress,
        # numpy, zlib and TensorFlow all let go of the interpreter while they work.
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        try:
            futures = {
                name: [
                    pool.submit(generator.write_file, *part, made, progress)
                    for part in _parts(aside, name, made)
                ]
                for name, made in sets.items()
            }
            for name, made in sets.items():
                logits, labels = zip(*(f.result() for f in futures[name]), strict=True)
                report = generator.report(
                    made, np.concatenate(logits), np.concatenate(labels)
                )
                manifest["sets"][name] = report
                echo(_table(name, report, tasks))
            # Last, so that a folder with a manifest is complete, renamed or copied.
            text = json.dumps(manifest, indent=1) + "\n"
            files.write_text(posixpath.join(aside, MANIFEST), text)
        except BaseException:
            generator.stop.set()
            pool.shutdown(cancel_futures=True)
            raise
    return manifest


def read_manifest(folder: str) -> dict | None:
    """What `make_data` returned when it made `folder`; None if it did not."""
    path = posixpath.join(folder, MANIFEST)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)


class _Generator:
    """Writes files of examples; several threads may do so at once."""

    def __init__(self, data, schema, names, tasks):
        rates = {
            label: data.natural_rates.get(label, data.default_rate)
            for label in _labels(schema, tasks)
        }
        self.data = data
        self.order = list(schema)
        self.labels = list(rates)
        self.columns = make_columns(
            schema,
            names,
            set(rates),
            data.used_columns,
            data.vocabulary_size,
            data.seed,
        )
        self.model = hidden_model.fit_hidden_model(self.columns, rates, data.seed)
        width = sum(max(feature.length, 1) for feature in schema.values())
        self.examples_at_once = min(max(_VALUES_AT_ONCE // width, 64), 4096)
        self.stop = threading.Event()
        self._progress_lock = threading.Lock()

    def write_file(
        self,
        path: str,
        key: tuple[int, int],
        examples: int,
        made: SyntheticSet,
        progress: tqdm.tqdm,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Writes one file; returns the true log-odds and labels, (examples, labels)."""
        rng = np.random.default_rng([self.data.seed, *key])
        shift = self._logit_shift(made)
        logits, labels = [], []
        with record_writer.open_record_files([path]) as output:
            for requests in self._requests(rng, examples):
                if self.stop.is_set():
                    raise concurrent.futures.CancelledError
                drawn = {n: c.draw(rng, requests) for n, c in self.columns.items()}
                values = {name: pair[0] for name, pair in drawn.items()}
                present = {n: p for n, (_, p) in drawn.items() if p is not None}
                logits.append(self.model.logits(self.columns, values) + shift)
                chances = hidden_model.sigmoid(logits[-1])
                labels.append(rng.random(chances.shape) < chances)
                values |= dict(zip(self.labels, labels[-1].T, strict=True))
                features = {name: values[name] for name in self.order}
                output.write(record_writer.serialize_examples(features, present))
                with self._progress_lock:
                    progress.update(requests.examples)
        return np.concatenate(logits), np.concatenate(labels)

    def _requests(self, rng, examples: int):
        """Yields requests, some at a time, of `examples` examples in all."""
        fewest, most = self.data.candidates
        sizes = rng.integers(fewest, most + 1, -(-examples // fewest))
        ends = np.minimum(np.cumsum(sizes), examples)
        sizes = np.diff(ends, prepend=0)
        sizes = sizes[sizes > 0]
        at_once = max(1, 2 * self.examples_at_once // (fewest + most))
        for start in range(0, len(sizes), at_once):
            yield Requests(sizes[start : start + at_once])

    def _logit_shift(self, made: SyntheticSet) -> np.ndarray:
        rates = [made.sampling_rates.get(label, (1.0, 1.0)) for label in self.labels]
        return np.log([kept[0] / kept[1] for kept in rates]).astype(np.float32)

    def report(self, made: SyntheticSet, logits, labels) -> dict:
        """The manifest's entry of a set."""
        tasks = {}
        for name, scores, drawn in zip(self.labels, logits.T, labels.T, strict=True):
            best = hidden_model.auroc(scores, drawn)
            tasks[name] = {
                "positives": int(drawn.sum()),
                "sampling_rates": list(made.sampling_rates.get(name, (1.0, 1.0))),
                "best_auroc": None if best is None else round(best, 6),
            }
        return {"examples": len(labels), "files": made.files, "tasks": tasks}


def _parts(folder: str, name: str, made: SyntheticSet):
    """Yields (path, key of its random numbers, number of examples) of a set's files."""
    paths = record_writer.part_paths(posixpath.join(folder, name), made.files)
    ends = [made.examples * (i + 1) // made.files for i in range(made.files)]
    for i, path in enumerate(paths):
        key = (zlib.crc32(name.encode()), i)
        yield path, key, ends[i] - (ends[i - 1] if i else 0)


def _labels(schema: Schema, tasks: Sequence[str]) -> list[str]:
    """The tasks, and what else in the schema looks like their label."""
    prefixes = {task.rpartition(".")[0] for task in tasks}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    for task in tasks:
        if (schema[task].dtype, schema[task].length) != ("int64_list", 1):
            raise ValueError(
                f"The label {task!r} must be one int64 in {schema.path}. Received: "
                f"{schema[task].dtype} of length {schema[task].length}"
            )
    return [
        name
        for name, feature in schema.items()
        if name in tasks
        or (
            prefix
            and name.rpartition(".")[0] == prefix
            and (feature.dtype, feature.length) == ("int64_list", 1)
        )
    ]


def _settings(data, schema, names, tasks, sets) -> dict:
    """All that decides the bytes, as JSON gives it back."""
    own = dataclasses.asdict(data)
    # The same data in another place; the sets say the other four.
    for name in (
        "folder",
        "examples",
        "files",
        "validation_examples",
        "validation_files",
    ):
        del own[name]
    settings = own | {
        "version": _VERSION,
        "schema": [dataclasses.astuple(feature) for feature in schema.values()],
        "names": dict(names),
        "tasks": list(tasks),
        "sets": {name: dataclasses.asdict(made) for name, made in sets.items()},
    }
    return json.loads(json.dumps(settings))


def _check_free(folder: str, manifest: dict | None, settings: dict) -> None:
    if not tf.io.gfile.exists(folder):
        return
    if manifest is not None:
        differ = sorted(
            key for key in settings if manifest["settings"].get(key) != settings[key]
        )
        raise FileExistsError(
            f"{folder} holds data that was made with other settings (other "
            f"{', '.join(differ)}). Remove it, or choose another folder."
        )
    if tf.io.gfile.listdir(folder):
        raise FileExistsError(
            f"{folder} exists and holds something else than made-up data. Choose "
            "another folder."
        )
    tf.io.gfile.rmtree(folder)  # empty


def _table(name: str, report: dict, tasks: Sequence[str]) -> str:
    """A set's manifest entry for people to read; the tasks only."""
    width = max(len(task) for task in tasks)
    lines = [
        f"{name}: {report['examples']:,} examples in {report['files']} files",
        f"  {'task':{width}}  positives    share  best AUROC",
    ]
    for task in tasks:
        made = report["tasks"][task]
        share = made["positives"] / report["examples"]
        best = made["best_auroc"]
        best = "no value" if best is None else f"{best:.4f}"
        lines.append(
            f"  {task:{width}}  {made['positives']:9,}  {share:7.2%}  {best:>10}"
        )
    return "\n".join(lines)
