"""A look at the first records before training: does the data hold what is read?"""

import collections
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from recap_tf.core.command import UserError
from recap_tf.data import record_files
from recap_tf.data.record_batches import Records
from recap_tf.data.schema import read_schema

_FILES = 16
_RECORDS_PER_FILE = 64


def probe(records: Records, tasks: Sequence[str]) -> list[str]:
    """Checks the features of some records of up to 16 files spread over the data set.

    A feature that a record lacks is read as zeros, silently; this is where it shows.
    `recap_tf.inspect` counts the same over all records.

    Returns:
        Warnings: which features some of the records lack, or hold values of that are
        not finite, and which share of them.

    Raises:
        ValueError: a name is not in the schema.
        UserError: no record of the data set holds a feature or label; or a feature is
            missing from more than `missing_tolerance` of the records.
    """
    label_features = records.label_features()
    names = [*records.names(), *label_features, *tasks]
    schema = read_schema(records.schema)
    for name in names:
        schema[name]  # Raises for a name that is not in it.
    paths = records.paths()
    spread = np.linspace(0, len(paths) - 1, min(len(paths), _FILES)).astype(int)
    present: collections.Counter[str] = collections.Counter()
    not_finite: collections.Counter[str] = collections.Counter()
    count = 0
    for i in spread:
        for features in _features(paths[i], _RECORDS_PER_FILE):
            count += 1
            present.update(features.keys())
            not_finite.update(
                name
                for name in features.keys() & records.names().keys()
                if not np.isfinite(features[name].float_list.value).all()
            )
    if not count:
        raise UserError(f"{paths[0]} and the other files hold no record.")
    absent = [name for name in names if not present[name]]
    if absent:
        _search_everywhere(paths, absent)
    warnings = []
    expected = [name for name, always in label_features.items() if always]
    for name in [*records.names(), *expected]:
        missing = 1.0 - present[name] / count
        if missing > records.missing_tolerance:
            raise UserError(
                f"Feature {name!r} is missing from {missing:.1%} of {count} records "
                f"looked at, {paths[0]} and others; Records.missing_tolerance is "
                f"{records.missing_tolerance}."
            )
        if missing:
            warnings.append(
                f"feature {name!r} is missing from {missing:.1%} of {count} records "
                "looked at; zeros stand in."
            )
        if not_finite[name]:
            warnings.append(
                f"feature {name!r} has NaN or infinity in {not_finite[name]} of "
                f"{count} records looked at; the preprocessor takes them for 0."
            )
    return warnings


def _features(path: str, limit: int = -1) -> Iterator[dict[str, tf.train.Feature]]:
    """The features that each record of a file holds."""
    dataset = record_files.open_records(path, record_files.compression(path))
    # Damage is reported with its place when training gets there.
    for serialized in dataset.take(limit).ignore_errors().as_numpy_iterator():
        try:
            example = tf.train.Example.FromString(serialized)
        except DecodeError:
            continue
        yield {
            name: feature
            for name, feature in example.features.feature.items()
            if feature.WhichOneof("kind")
        }


def _search_everywhere(paths: Sequence[str], names: Sequence[str]) -> None:
    """Raises UserError if no record of the whole data set holds one of `names`."""
    sought = set(names)
    for path in paths:
        for features in _features(path):
            sought -= features.keys()
            if not sought:
                return
    raise UserError(
        f"No record holds {', '.join(map(repr, sorted(sought)))}, in any of "
        f"{len(paths)} files from {paths[0]} on."
    )
