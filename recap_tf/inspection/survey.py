"""What a folder of records holds, and what training would choke on."""

import dataclasses
import math
import posixpath
import re
from collections.abc import Iterator, Sequence
from typing import Any

import tensorflow as tf
from tqdm import tqdm

from recap_tf.conversion.columns import Columns
from recap_tf.core.command import UserError
from recap_tf.data.record_checks import (
    RecordBatch,
    RecordFault,
    checked_batches,
    wrong_label,
)
from recap_tf.data.schema import Feature, Schema
from recap_tf.inspection.feature_summary import FeatureSummary

_RECORDS = re.compile(r".*\.(tfrecords?|gz)([.-].*)?")
_NUMBERED = re.compile(r"(.+?)[-_.]\d+([-_.].*)?")


@dataclasses.dataclass
class SplitSummary:
    """One data set of a folder.

    Args:
        files: paths of its record files.
        records: how many records were read.
        labels: label -> positives.
        features: feature -> its summary.
        faults: what training would choke on, one line each.
        whole: whether there are no more records than those.
    """

    files: list[str]
    records: int
    labels: dict[str, int]
    features: dict[str, FeatureSummary]
    faults: list[str]
    whole: bool = True

    def as_json(self, columns: Columns | None) -> dict[str, Any]:
        """The summary as a dict, with the names of dense features' columns."""
        return {
            "files": len(self.files),
            "records": self.records,
            "labels": {
                name: {"positives": ones, "rate": ones / max(self.records, 1)}
                for name, ones in self.labels.items()
            },
            "features": {
                name: summary.as_json(column_names(columns, name))
                for name, summary in self.features.items()
            },
            "faults": self.faults,
        }


def find_splits(target: str) -> dict[str, list[str]]:
    """Finds the record files of a folder or glob, by split: the files' prefix.

    A folder without record files of its own stands for those below it.

    Raises:
        UserError: there are none.
    """
    if tf.io.gfile.isdir(target):
        paths = _record_files(target, sorted(tf.io.gfile.listdir(target)))
        if not paths:
            for folder, _, names in tf.io.gfile.walk(target):
                paths += _record_files(folder, sorted(names))
        if not paths:
            raise UserError(f"{target} holds no record files (*.tfrecord, *.gz).")
    else:
        paths = sorted(tf.io.gfile.glob(target))
        if not paths:
            raise UserError(f"{target} matches no file.")
    splits: dict[str, list[str]] = {}
    for path in paths:
        name = posixpath.basename(path)
        numbered = _NUMBERED.fullmatch(name)
        split = numbered[1] if numbered else name.split(".")[0]
        splits.setdefault(split, []).append(path)
    return splits


def summarize(
    split: str,
    paths: Sequence[str],
    schema: Schema,
    *,
    labels: Sequence[str] | None,
    columns: Columns | None,
    most_records: int | None = None,
) -> SplitSummary:
    """Reads the records of a split, in constant memory.

    Args:
        split: what the progress bar calls it.
        paths: the record files, gzipped or not.
        schema: what the records should hold.
        labels: which features must be 0 or 1; None takes those that are.
        columns: names and vocabulary sizes of the dense features' columns.
        most_records: no further batch is read after so many; none reads all.
    """
    for name in labels or ():
        schema[name]  # raises, with the name, if the schema lacks it
    summaries = {
        name: FeatureSummary(feature, _sizes(columns, feature))
        for name, feature in schema.items()
    }
    faults: dict[str, str] = {}
    records = 0
    sizes = [tf.io.gfile.stat(path).length for path in paths]
    progress = {"unit": "B", "unit_scale": True, "miniters": 0, "mininterval": 0.5}
    most, whole = math.inf if most_records is None else most_records, True
    with tqdm(total=sum(sizes), desc=split, **progress) as bar:
        for path, size in zip(paths, sizes, strict=True):
            if not whole:
                break
            batches = checked_batches(path, schema)
            for batch in _until_fault(batches, path, faults):
                if records >= most:
                    whole = False
                    break
                records += batch.count
                for name, summary in summaries.items():
                    outside = summary.add(*batch.features[name])
                    if outside:
                        fault = _outside(batch, name, outside, columns)
                        faults.setdefault(f"ids of {name}", fault)
                for name in labels or ():
                    fault = wrong_label(batch, name)
                    if fault:
                        faults.setdefault(f"label {name}", fault)
                bar.set_postfix_str(f"{records:,} records", refresh=False)
                bar.update(0)
            bar.update(size)
    if labels is None:
        labels = [name for name, summary in summaries.items() if _is_label(summary)]
    for name, summary in summaries.items():
        if records and not summary.present:
            faults[f"absent {name}"] = (
                f"{split}: no record holds the feature {name!r} of {schema.path}"
            )
    if not records and not faults:
        faults["empty"] = f"{split}: its {len(paths)} files hold no record"
    positives = {name: int(summaries[name].ones.sum()) for name in labels}
    lines = list(faults.values())
    return SplitSummary(list(paths), records, positives, summaries, lines, whole)


def column_names(columns: Columns | None, feature: str) -> list[str] | None:
    """The names of a dense feature's columns, if they are known."""
    if columns is None or feature not in ("continuous", "binary", "discrete"):
        return None
    return [column.name for column in getattr(columns, feature)]


def _record_files(folder: str, names: Sequence[str]) -> list[str]:
    return [
        posixpath.join(folder, name)
        for name in names
        if _RECORDS.fullmatch(name) and not name.startswith(".")
    ]


def _sizes(columns: Columns | None, feature: Feature) -> list[int] | None:
    if columns is None or feature.name != "discrete":
        return None
    if len(columns.discrete) != feature.length:
        raise UserError(
            f"columns.json lists {len(columns.discrete)} columns of 'discrete', the "
            f"schema says {feature.length}."
        )
    return [column.size for column in columns.discrete]


def _until_fault(
    batches: Iterator[RecordBatch], path: str, faults: dict[str, str]
) -> Iterator[RecordBatch]:
    try:
        yield from batches
    except RecordFault as fault:
        faults[f"file {path}"] = str(fault)


def _outside(
    batch: RecordBatch, name: str, place: tuple[int, int], columns: Columns
) -> str:
    row, column = place
    values, splits = batch.features[name]
    entry = columns.discrete[column]
    return (
        f"{batch.path}, record {batch.first + row}: id {values[splits[row] + column]} "
        f"of {entry.name!r} (column {column} of {name}) is outside its vocabulary of "
        f"{entry.size}"
    )


def _is_label(summary: FeatureSummary) -> bool:
    feature = summary.feature
    return (
        feature.dtype == "int64_list"
        and feature.length == 1
        and not feature.name.startswith("meta.")
        and summary.present > 0
        and summary.min[0] >= 0
        and summary.max[0] <= 1
    )
