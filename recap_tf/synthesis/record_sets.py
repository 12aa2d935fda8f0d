"""Files of made-up ranking data, and how well they can be ranked."""

import concurrent.futures
import dataclasses
import json
import os
import posixpath
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence

import gin
import numpy as np
import tqdm

from recap_tf.core import files
from recap_tf.core.checks import check_range
from recap_tf.core.made_data import check_free, read_manifest, write_manifest
from recap_tf.data import record_writer
from recap_tf.data.sampling import SamplingRates
from recap_tf.data.schema import Schema
from recap_tf.synthesis.examples import ExampleSource, label_names
from recap_tf.synthesis.features import make_columns
from recap_tf.synthesis.hidden_model import fit_hidden_model
from recap_tf.synthesis.log import Period, SyntheticLog, periods
from recap_tf.synthesis.report import SyntheticSet, describe_set, format_set

_OLD = 60.0  # degrees between the old ranker's taste and the labels'
_VERSION = 1  # another one when the same settings come to give other data


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticData:
    """The settings of made-up data; `make_data` makes it.

    >>> from recap_tf.synthesis.record_sets import SyntheticData
    >>> SyntheticData(folder="data/made", examples=1000, files=2).default_rate
    0.02

    Args:
        folder: where the data goes; one folder per data set in it.
        examples, files: how many the training set has; at least as many examples as
            files.
        validation_examples, validation_files: how many every other set has, likewise.
        seed: of the hidden model and of everything drawn; at least 0.
        natural_rates: task -> share of positives in natural traffic, in (0, 1).
        default_rate: that share for tasks that are not listed.
        candidates: fewest and most examples of one request, that is, of one user.
        used_columns: feature inside the model -> how many of its first columns the
            model sees, all where not listed; the labels depend on no others.
        vocabulary_size: ids of categorical features are below it; at least 2.
        log: makes the training set a log, in dated folders, with times.
    """

    folder: str
    examples: int = 100_000
    files: int = 16
    validation_examples: int = 10_000
    validation_files: int = 2
    seed: int = 1
    natural_rates: Mapping[str, float] = dataclasses.field(default_factory=dict)
    default_rate: float = 0.02
    candidates: tuple[int, int] = (5, 30)
    used_columns: Mapping[str, int] = dataclasses.field(default_factory=dict)
    vocabulary_size: int = 100
    log: SyntheticLog | None = None

    def __post_init__(self):
        for kind in ("", "validation_"):
            number = getattr(self, f"{kind}files")
            examples = getattr(self, f"{kind}examples")
            if not 1 <= number <= examples:
                raise ValueError(
                    f"SyntheticData.{kind}files must be at least 1 and at most "
                    f"{kind}examples. Received: {number} files for {examples} examples"
                )
        if self.log is not None and self.files < self.log.length:
            raise ValueError(
                f"SyntheticData.files must be at least the {self.log.length} folders "
                f"of SyntheticLog.length. Received: {self.files}"
            )
        listed = {f"natural_rates[{t!r}]": r for t, r in self.natural_rates.items()}
        for setting, rate in ({"default_rate": self.default_rate} | listed).items():
            check_range(f"SyntheticData.{setting}", rate, above=0, below=1)
        if (
            len(self.candidates) != 2
            or not 1 <= self.candidates[0] <= self.candidates[1]
        ):
            raise ValueError(
                "SyntheticData.candidates must be two counts, 1 <= fewest <= most. "
                f"Received: {self.candidates}"
            )
        check_range("SyntheticData.vocabulary_size", self.vocabulary_size, at_least=2)
        check_range("SyntheticData.seed", self.seed, at_least=0)


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
        <folder>/<set>/2026/03/07/part-...                    a set that is dated
        <folder>/synthetic.json

    The folder appears when all of it is complete. The same settings give the same
    bytes, however many cores make them.

    >>> import tempfile
    >>> from recap_tf.data.schema import Feature, Schema
    >>> from recap_tf.synthesis import record_sets, report
    >>> listed = [Feature("age", "float_list", 1), Feature("like", "int64_list", 1)]
    >>> data = record_sets.SyntheticData(folder=f"{tempfile.mkdtemp()}/data")
    >>> sets = {"train": report.SyntheticSet(examples=100, files=2, sampling_rates={})}
    >>> echo = [].append
    >>> manifest = record_sets.make_data(data, Schema(listed), {}, ["like"], sets, echo)
    >>> manifest["sets"]["train"]["examples"]
    100

    Args:
        schema: of the records; see `label_names` for what in it is a label.
        names: feature -> its name inside the model, where it has another.
        tasks: the labels that a model learns.
        sets: name of a set, also of its folder -> what it is.
        echo: takes a few lines on each set that is done.

    Returns:
        The manifest, as in synthetic.json:
        {"settings": {...}, "sets": {set: {"examples", "files", "tasks": {task:
        {"positives", "sampling_rates", "best_auroc"}}}}}; best_auroc, that of the true
        log-odds, is None where all labels are equal. In a log both are of engagements
        in time.

    Raises:
        FileExistsError: the folder holds something else.
    """
    settings = _settings(data, schema, names, tasks, sets)
    manifest = read_manifest(data.folder)
    if manifest is not None and manifest["settings"] == settings:
        return manifest
    check_free(data.folder, manifest, settings)
    source = _example_source(data, schema, names, tasks)
    manifest = {"settings": settings, "sets": {}}
    stop = threading.Event()
    total = sum(spec.examples for spec in sets.values())
    with (
        files.new_folder(data.folder) as aside,
        tqdm.tqdm(total=total, unit=" examples", unit_scale=True) as progress,
        # numpy, zlib and TensorFlow let other threads run while they work.
        concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool,
    ):
        try:
            futures = {
                name: [
                    pool.submit(
                        _write_file, source, part, spec.sampling_rates, progress, stop
                    )
                    for part in _parts(aside, name, spec, data)
                ]
                for name, spec in sets.items()
            }
            for name, spec in sets.items():
                written = [future.result() for future in futures[name]]
                logits, labels = map(np.concatenate, zip(*written, strict=True))
                report = describe_set(spec, source.labels, logits, labels)
                manifest["sets"][name] = report
                with progress.external_write_mode():
                    echo(format_set(name, report, list(spec.sampling_rates) or tasks))
        except BaseException:
            stop.set()
            pool.shutdown(cancel_futures=True)
            raise
        write_manifest(aside, manifest)
    return manifest


def _example_source(data, schema, names, tasks) -> ExampleSource:
    rates = {
        label: data.natural_rates.get(label, data.default_rate)
        for label in label_names(schema, tasks)
    }
    known = list(rates)
    if data.log is not None:
        data.log.check(schema, known)
        known += data.log.features()
    columns = make_columns(
        schema, names, known, data.used_columns, data.vocabulary_size, data.seed
    )
    drifts = data.log is not None and data.log.drift
    ranked = data.log is not None and data.log.position is not None

    def model(seed: int):
        return fit_hidden_model(columns, rates, seed)

    hidden = model(data.seed)
    return ExampleSource(
        order=list(schema),
        labels=list(rates),
        columns=columns,
        model=hidden,
        candidates=data.candidates,
        log=data.log,
        before=model(data.seed + 1) if drifts else None,
        old_ranker=hidden.turned(model(data.seed + 2), _OLD) if ranked else None,
    )


@dataclasses.dataclass(frozen=True)
class _Part:
    path: str
    examples: int
    seed: Sequence[int]
    period: Period | None


def _parts(
    folder: str, name: str, spec: SyntheticSet, data: SyntheticData
) -> Iterator[_Part]:
    *dated, after = [("", None)] if data.log is None else periods(data.log)
    for i in range(spec.files):
        within, period = dated[i * len(dated) // spec.files] if spec.dated else after
        file = record_writer.part_name(i, spec.files)
        path = posixpath.join(folder, name, within, file)
        start, end = (spec.examples * k // spec.files for k in (i, i + 1))
        seed = [data.seed, zlib.crc32(name.encode()), i]
        yield _Part(path, end - start, seed, period)


def _write_file(
    source: ExampleSource,
    part: _Part,
    rates: SamplingRates,
    progress: tqdm.tqdm,
    stop: threading.Event,
) -> tuple[np.ndarray, np.ndarray]:
    """Writes one file; returns its log-odds and labels, (examples, labels) each."""
    rng = np.random.default_rng(part.seed)
    logits, labels = [], []
    with record_writer.open_record_files([part.path]) as output:
        for batch in source.draw(rng, part.examples, rates, part.period):
            if stop.is_set():
                raise concurrent.futures.CancelledError
            output.write(
                record_writer.serialize_examples(batch.features, batch.present)
            )
            logits.append(batch.logits)
            labels.append(batch.labels)
            with progress.get_lock():
                progress.update(len(batch.labels))
    return np.concatenate(logits), np.concatenate(labels)


def _settings(data, schema, names, tasks, sets) -> dict:
    """All that decides the bytes, as JSON gives it back."""
    listed = dataclasses.asdict(data)
    for key in ("folder", "examples", "files"):
        # Of these, the folder does not matter and the sets have the others.
        listed.pop(key)
        listed.pop(f"validation_{key}", None)
    parts = {name: dataclasses.asdict(spec) for name, spec in sets.items()}
    if data.log is None:
        listed.pop("log")
        for part in parts.values():
            part.pop("dated")
    settings = listed | {
        "version": _VERSION,
        "schema": [dataclasses.astuple(feature) for feature in schema.values()],
        "names": dict(names),
        "tasks": list(tasks),
        "sets": parts,
    }
    return json.loads(json.dumps(settings))
