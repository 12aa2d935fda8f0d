"""Second pass: rows -> record files, with the vocabularies of the training rows."""

import posixpath
from collections.abc import Iterable, Mapping

import numpy as np
import tensorflow as tf

from recap_tf.conversion import data_folder
from recap_tf.conversion.column_values import keys
from recap_tf.conversion.columns import Columns
from recap_tf.conversion.fitting import Fitted, numeric_values
from recap_tf.conversion.history import History
from recap_tf.conversion.impressions import Chunk, Impressions
from recap_tf.conversion.vocabulary import Vocabulary
from recap_tf.core.command import UserError
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature

# Values per serialized block: bounds the memory that laying out its bytes takes.
_BLOCK_VALUES = 1 << 21


def schema_features(columns: Columns) -> list[Feature]:
    """The features of one record."""
    features = []
    for name, dtype, length in (
        ("continuous", "float_list", len(columns.continuous)),
        ("binary", "int64_list", len(columns.binary)),
        ("discrete", "int64_list", len(columns.discrete)),
    ):
        if length:
            features.append(Feature(name, dtype, length))
    features += [Feature(e.name, "float_list", e.width) for e in columns.embeddings]
    if columns.group:
        features.append(Feature(columns.group_feature, "int64_list", 1))
    features += [Feature(label.name, "int64_list", 1) for label in columns.labels]
    return features


def record_values(
    chunk: Chunk, columns: Columns, vocabularies: Mapping[str, Vocabulary]
) -> dict[str, np.ndarray]:
    """Feature name -> (rows, length), as `schema_features` lists them."""
    values = {}
    if columns.continuous:
        numbers = numeric_values(chunk, columns.own_numeric)
        missing = np.isnan(numbers)
        values["continuous"] = np.where(missing, np.float32(0), numbers)
        place = {c.name: index for index, c in enumerate(columns.continuous)}
        marked = [place[mark.column] for mark in columns.binary]
        values["binary"] = missing[:, marked].astype(np.int64)
    if columns.discrete:
        ids = [vocabularies[c.name].ids(chunk.column(c.name)) for c in columns.discrete]
        values["discrete"] = np.stack(ids, axis=1)
    for embedding in columns.embeddings:
        values[embedding.name] = chunk.vectors(embedding.column, embedding.width)
    if columns.group:
        values[columns.group_feature] = keys(chunk.column(columns.group))[:, None]
    for index, label in enumerate(columns.labels):
        values[label.name] = chunk.labels[:, index : index + 1]
    return {f.name: values[f.name] for f in schema_features(columns)}


def columns_read(columns: Columns) -> list[str]:
    """The columns that the rows of `columns` are made of, labels and keys apart."""
    names = columns.own_numeric + [c.name for c in columns.discrete]
    names += [embedding.column for embedding in columns.embeddings]
    return names + ([columns.group] if columns.group else [])


def write_records(
    rows: Impressions,
    fitted: Fitted,
    folder: str,
    split: str,
    *,
    window: tuple[int, int],
    shards: int | None,
    history: History | None,
    doing: str,
) -> tuple[np.ndarray, dict[str, int]]:
    """Writes `split-00000-of-0000N.tfrecord.gz` to `folder`, rows in order.

    Args:
        split: the files' prefix.
        window: the first row and the end, as in `Impressions.chunks`.
        shards: number of files; None chooses.
        history: continued by these rows.
        doing: what the progress bar says.

    Returns:
        Positives per label; and embedding -> rows without one, which get zeros.
    """
    columns = fitted.columns
    count = window[1] - window[0]
    shards = shards or _shards(count)
    # Each file holds neighbouring rows, so that reading several files at once mixes
    # rows that are far apart: a log is sorted by time.
    ends = [count * (index + 1) // shards for index in range(shards)]
    names = [data_folder.record_name(split, i, shards) for i in range(shards)]
    width = sum(feature.length for feature in schema_features(columns))
    block = max(_BLOCK_VALUES // width, 1)
    positives = np.zeros(len(columns.labels), np.int64)
    without = dict.fromkeys((e.name for e in columns.embeddings), 0)
    with _SuccessiveFiles(folder, names, ends) as files:
        for chunk in rows.chunks(
            columns_read(columns), history=history, window=window, doing=doing
        ):
            positives += chunk.labels.sum(axis=0)
            for embedding in columns.embeddings:
                without[embedding.name] += chunk.column(embedding.column).null_count
            values = record_values(chunk, columns, fitted.vocabularies)
            for start in range(0, len(chunk.rows), block):
                part = {k: v[start : start + block] for k, v in values.items()}
                files.write(serialize_examples(part))
    return positives, without


def check_label_names(columns: Columns) -> None:
    """Raises UserError if a label is named like another feature of the records."""
    names = [feature.name for feature in schema_features(columns)]
    taken = {"continuous", "binary", "discrete"}
    for label in columns.labels:
        if label.name in taken or names.count(label.name) > 1:
            raise UserError(
                f"--labels: {label.name!r} is the name of another feature of the "
                f"records; name it otherwise, as in other_name:{label.expression}"
            )


def _shards(count: int) -> int:
    """Files of at least 2,500 rows up to 16, then of 100,000 rows each."""
    return max(1, min(16, count // 2500), -(-count // 100_000))


class _SuccessiveFiles:
    """Writes records to one file after the other: each is full at its end."""

    def __init__(self, folder: str, names: list[str], ends: list[int]):
        self._paths = [posixpath.join(folder, name) for name in names]
        self._ends = ends
        self._written = 0
        self._writer = None

    def write(self, records: Iterable[bytes]) -> None:
        for record in records:
            while self._writer is None or self._written == self._ends[0]:
                self._next()
            self._writer.write(record)
            self._written += 1

    def _next(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._ends = self._ends[1:]
        options = tf.io.TFRecordOptions(compression_type="GZIP")
        self._writer = tf.io.TFRecordWriter(self._paths.pop(0), options)

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        while kind is None and self._paths:
            self._next()
        if self._writer is not None:
            self._writer.close()
