"""Vectors that were learned elsewhere, put into records by the ids these hold."""

import dataclasses
import posixpath
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from recap_tf.core.command import UserError
from recap_tf.core.embeddings.vocabulary import first_twice, vector_chunks
from recap_tf.data.record_files import compression, read_whole
from recap_tf.data.record_writer import open_record_files, serialize_examples
from recap_tf.data.schema import Feature, Schema

_BATCH = 4096


@dataclasses.dataclass(frozen=True)
class VectorJoin:
    """One `--vectors FEATURE=FILE:ID_FEATURE`.

    Args:
        feature: the name under which records get the vector.
        path: of a parquet or .npz file with `entity` and `vector`, which fits in
            memory.
        key: the feature that holds the entity's id.
    """

    feature: str
    path: str
    key: str


def parse_vector_join(text: str) -> VectorJoin:
    """Reads `FEATURE=FILE:ID_FEATURE`.

    Raises:
        UserError: `text` is not of this form.
    """
    feature, _, place = text.partition("=")
    path, _, key = place.rpartition(":")
    if not feature or not path or not key:
        raise UserError(f"--vectors takes FEATURE=FILE:ID_FEATURE. Received: {text!r}")
    return VectorJoin(feature, path, key)


class VectorTable:
    """The vectors of a file, found by entity.

    Args:
        path: see `VectorJoin`.

    Raises:
        UserError: the file cannot be read, names no entities, or one of them twice.
    """

    def __init__(self, path: str):
        chunks = list(vector_chunks(path))
        if not chunks:
            raise UserError(f"{path} holds no vectors.")
        if chunks[0][0] is None:
            raise UserError(f"{path} must hold `entity` beside `vector`.")
        widths = sorted({vectors.shape[1] for _, vectors in chunks})
        if len(widths) > 1:
            raise UserError(
                f"{path} must hold vectors of one length. Received: {widths}"
            )
        self.path, self.width = path, widths[0]
        entities = np.concatenate([part for part, _ in chunks])
        order = np.argsort(entities, kind="stable")
        self.entities = entities[order]
        self.vectors = np.concatenate([vectors for _, vectors in chunks])[order]
        twice = first_twice(self.entities)
        if twice is not None:
            raise UserError(f"{path} holds entity {twice!r} more than once.")

    def find(self, ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n,) ids -> (n, width) vectors, zeros for unknown ids; (n,) who is known."""
        at = np.minimum(np.searchsorted(self.entities, ids), len(self.entities) - 1)
        known = self.entities[at] == ids
        return np.where(known[:, np.newaxis], self.vectors[at], np.float32(0)), known


@dataclasses.dataclass
class JoinedRecords:
    """How many records there were, and how many got a vector."""

    records: int = 0
    known: int = 0


class RecordJoiner:
    """Adds vectors to records; what they hold otherwise stays byte for byte.

    Args:
        joins: one per feature.
        schema: of the records as they are read.

    Raises:
        UserError: a key is no single id of the table's type, or the schema knows a
            feature otherwise.
    """

    def __init__(self, joins: Sequence[VectorJoin], schema: Schema):
        names = [join.feature for join in joins]
        if len(set(names)) < len(names):
            raise UserError(f"--vectors gives each feature once. Received: {names}")
        paths = dict.fromkeys(join.path for join in joins)
        tables = {path: VectorTable(path) for path in paths}
        self._joins = [(join, tables[join.path]) for join in joins]
        self._schema = schema
        for join, table in self._joins:
            _check(join, table, schema)
        self.joined = {name: JoinedRecords() for name in names}

    def schema(self) -> list[Feature]:
        """The features of the records that come out."""
        features = dict(self._schema)
        for join, table in self._joins:
            feature = Feature(join.feature, "float_list", table.width)
            features[join.feature] = feature
        return list(features.values())

    def join(self, source: str, target: str, bar: tqdm) -> None:
        """Writes the records of the file `source` to `target`, in their order."""
        records = read_whole(source, compression(source), strict=True).batch(_BATCH)
        with open_record_files([target]) as output:
            for batch in records.prefetch(2).as_numpy_iterator():
                output.write(self._joined(batch))
                bar.update(len(batch))

    def _joined(self, records: np.ndarray) -> Iterator[bytes]:
        ids = self._ids(records)
        features = {}
        for join, table in self._joins:
            vectors, known = table.find(ids[join.key][0])
            known &= ids[join.key][1]
            vectors[~known] = 0
            features[join.feature] = vectors
            self.joined[join.feature].records += len(records)
            self.joined[join.feature].known += int(known.sum())
        # Protocol buffers one after the other are one: of a feature that is there
        # twice, the last counts.
        for record, added in zip(records, serialize_examples(features), strict=True):
            yield record + added

    def _ids(self, records: np.ndarray) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Key -> each record's id, and whether it has one."""
        keys = {join.key for join, _ in self._joins}
        spec = {
            key: tf.io.RaggedFeature(self._schema[key].tensor_dtype) for key in keys
        }
        ids_of = {}
        for key, ragged in tf.io.parse_example(records, spec).items():
            present = ragged.row_lengths().numpy() > 0
            ids = np.zeros(len(records), object if ragged.dtype == tf.string else "i8")
            if ids.dtype == object:
                ids[:] = b""
            ids[present] = tf.gather(ragged.values, ragged.row_starts()[present])
            ids_of[key] = ids, present
        return ids_of


def targets(paths: Sequence[str], folder: str) -> list[str]:
    """Where each file's records go: a file of its name in `folder`.

    Raises:
        UserError: two files have one name, or would be written over themselves.
    """
    names = [posixpath.basename(path) for path in paths]
    for name in names:
        if names.count(name) > 1:
            raise UserError(
                f"--records matches several files named {name}; join them folder by "
                "folder."
            )
    joined_paths = [posixpath.join(folder, name) for name in names]
    for path, target in zip(paths, joined_paths, strict=True):
        if posixpath.normpath(path) == posixpath.normpath(target):
            raise UserError(f"--out must be another folder than that of {path}.")
    return joined_paths


def _check(join: VectorJoin, table: VectorTable, schema: Schema) -> None:
    key = schema[join.key]
    text = table.entities.dtype == object
    wanted = "bytes_list" if text else "int64_list"
    flag = f"--vectors {join.feature}"
    if key.dtype != wanted or key.length != 1:
        raise UserError(
            f"{flag}: {join.key!r} must be one value of a {wanted}, as the entities of "
            f"{join.path} are. Received: {key.dtype} of length {key.length}"
        )
    if join.feature in schema:
        known = schema[join.feature]
        if (known.dtype, known.length) != ("float_list", table.width):
            raise UserError(
                f"{flag}: {schema.path} has it as {known.dtype} of length "
                f"{known.length}, but {join.path} has vectors of {table.width} numbers."
            )
