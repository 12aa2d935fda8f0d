"""Finds what is wrong with record files: damage, and records unlike their schema."""

import contextlib
import dataclasses
import re
from collections.abc import Iterable, Iterator

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from recap_tf.core.command import UserError
from recap_tf.data import record_files
from recap_tf.data.schema import VARIABLE, Feature, Schema

BATCH_RECORDS = 512


class RecordFault(UserError):
    """A file or record that training could not read; the message says which."""


@dataclasses.dataclass(frozen=True)
class RecordBatch:
    """Some records of one file.

    Args:
        first: number of the first record in the file, counted from 1.
        count: how many records of the file these are.
        features: name -> (all its values, (count + 1,) where each record's begin
            and the last one's end).
    """

    path: str
    first: int
    count: int
    features: dict[str, tuple[np.ndarray, np.ndarray]]


def first_fault(
    paths: Iterable[str],
    schema: Schema,
    names: Iterable[str] | None = None,
    *,
    labels: Iterable[str] = (),
) -> str | None:
    """The first thing in `paths` that reading them would fail at, or None.

        "FILE, record 7: feature 'x' has 5 values, the schema says 6"
        "FILE: damaged after 120 records (truncated record at 14520)"

    Args:
        paths: record files, gzipped or not.
        schema: what the records should hold.
        names: the features that are read; None means all of the schema.
        labels: those of them that must be 0 or 1.
    """
    for path in paths:
        try:
            for batch in checked_batches(path, schema, names):
                for name in labels:
                    if fault := wrong_label(batch, name):
                        return fault
        except RecordFault as fault:
            return str(fault)
    return None


def checked_batches(
    path: str, schema: Schema, names: Iterable[str] | None = None
) -> Iterator[RecordBatch]:
    """Reads a file as batches of parsed records.

    A feature that a record lacks has no values there; that is no fault.

    Raises:
        RecordFault: at the first record, or damage, that cannot be read.
    """
    features = [schema[name] for name in (schema if names is None else names)]
    spec = {f.name: tf.io.RaggedFeature(f.tensor_dtype) for f in features}
    first = 1
    for serialized in serialized_batches(path):
        try:
            parsed = tf.io.parse_example(serialized, spec) if spec else {}
        # TensorFlow quotes what it cannot parse, and Python fails to decode that.
        except (tf.errors.OpError, UnicodeDecodeError) as error:
            raise _fault_in(path, first, serialized, features) or RecordFault(
                f"{path}, records {first} to {first + len(serialized) - 1}: "
                f"{_reason(error)}"
            ) from error
        values = {
            name: (ragged.values.numpy(), ragged.row_splits.numpy())
            for name, ragged in parsed.items()
        }
        batch = RecordBatch(path, first, len(serialized), values)
        if _has_wrong_length(batch, features):
            raise _fault_in(path, first, serialized, features)
        yield batch
        first += len(serialized)


def wrong_label(batch: RecordBatch, name: str) -> str | None:
    """The first value of label `name` that is neither 0 nor 1, or None."""
    values, splits = batch.features[name]
    wrong = np.flatnonzero((values != 0) & (values != 1))
    if not len(wrong):
        return None
    row = int(np.searchsorted(splits, wrong[0], side="right")) - 1
    return (
        f"{batch.path}, record {batch.first + row}: label {name!r} must be 0 or 1. "
        f"Received: {values[wrong[0]]}"
    )


def serialized_batches(path: str) -> Iterator[np.ndarray]:
    """Reads a file as arrays of serialized records, all there are before any damage.

    Raises:
        RecordFault: the file is missing, or damaged after what was yielded.
    """
    try:
        compression = record_files.compression(path)
    except tf.errors.NotFoundError as error:
        raise RecordFault(f"{path} does not exist.") from error
    dataset = record_files.open_records(path, compression)
    records, size = 0, 0
    try:
        for batch in dataset.batch(BATCH_RECORDS).as_numpy_iterator():
            yield batch
            records += len(batch)
            size += sum(map(len, batch)) + record_files.FRAME_BYTES * len(batch)
    except tf.errors.OpError as error:
        # The batch that met the damage is lost; its first records are not.
        rest = _until_damage(dataset.skip(records))
        if len(rest):
            yield rest
        raise _damage(path, records + len(rest), _reason(error)) from error
    missing = record_files.missing_end(path, size)
    if missing:
        raise _damage(path, records, missing)


def _until_damage(dataset: tf.data.Dataset) -> np.ndarray:
    records = []
    with contextlib.suppress(tf.errors.OpError):
        records.extend(dataset.as_numpy_iterator())
    return np.array(records, object)


def _has_wrong_length(batch: RecordBatch, features: Iterable[Feature]) -> bool:
    for feature in features:
        if feature.length != VARIABLE:
            lengths = np.diff(batch.features[feature.name][1])
            if ((lengths != feature.length) & (lengths != 0)).any():
                return True
    return False


def _fault_in(
    path: str, first: int, serialized: np.ndarray, features: list[Feature]
) -> RecordFault | None:
    """Looks for the fault record by record, which only pays once there is one."""
    for number, record in enumerate(serialized, first):
        where = f"{path}, record {number}"
        try:
            example = tf.train.Example.FromString(record)
        except DecodeError:
            return RecordFault(f"{where}: it is not a tf.Example")
        held = example.features.feature
        for feature in features:
            if feature.name not in held:
                continue
            value = held[feature.name]
            kind = value.WhichOneof("kind")
            if kind is None:
                continue
            if kind != feature.dtype:
                return RecordFault(
                    f"{where}: feature {feature.name!r} is a {kind}, the schema says "
                    f"{feature.dtype}"
                )
            length = len(getattr(value, kind).value)
            if feature.length not in (VARIABLE, length):
                return RecordFault(
                    f"{where}: feature {feature.name!r} has {length} values, the "
                    f"schema says {feature.length}"
                )
    return None


def inferred_schema(path: str, records: int = 256) -> Schema:
    """The schema that the first records of a file follow.

    A feature whose records differ in length gets a variable one.

    Raises:
        RecordFault: there is no record, or one is not a tf.Example.
    """
    dtypes: dict[str, str] = {}
    lengths: dict[str, int] = {}
    seen = 0
    for batch in serialized_batches(path):
        for record in batch[: records - seen]:
            try:
                example = tf.train.Example.FromString(record)
            except DecodeError as error:
                raise RecordFault(
                    f"{path}, record {seen + 1}: it is not a tf.Example"
                ) from error
            for name, value in example.features.feature.items():
                kind = value.WhichOneof("kind")
                length = len(getattr(value, kind).value) if kind else 0
                if length:
                    dtypes.setdefault(name, kind)
                    if lengths.setdefault(name, length) != length:
                        lengths[name] = VARIABLE
            seen += 1
        if seen >= records:
            break
    if not dtypes:
        raise RecordFault(f"{path} holds no record.")
    return Schema(
        [Feature(name, dtypes[name], lengths[name]) for name in sorted(dtypes)], path
    )


def _damage(path: str, records: int, reason: str) -> RecordFault:
    return RecordFault(f"{path}: damaged after {records} records ({reason})")


def _reason(error: Exception) -> str:
    """The error's first line without TensorFlow's marks of where it arose."""
    text = str(getattr(error, "message", error)).strip().splitlines()[0]
    text = re.sub(r"\{\{.*?\}\}\s*", "", text)
    text = re.sub(r"(record at \d+)' failed with EOF.*", r"\1", text)
    return re.sub(r"\s*(\(Is this even.*)?\[Op:.*$", "", text)
