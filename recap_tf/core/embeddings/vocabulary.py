"""Vocabularies (entity -> row) and tables that start from vectors learned elsewhere."""

import hashlib
import posixpath
import zipfile
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.embeddings.row_finders import Ids, RowFinder
from recap_tf.core.row_files import open_table

_CHUNK = 65_536


def read_vocabulary(path: str, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Reads a vocabulary: a parquet or CSV file with the columns `entity`, `row`.

    Args:
        path: may be on any file system.
        rows: how many the table has. Rows that no entity has are no error.

    Returns:
        entities, (n,) int64 or objects of bytes, and their rows, (n,) int64.

    Raises:
        UserError: the file cannot be read, an entity or a row appears twice or is
            missing, or a row is outside the table.
    """
    file = open_table(path)
    file.require(["entity", "row"])
    chunks = [chunk for _, chunk in file.chunks(["entity", "row"])]
    if not chunks:
        raise UserError(f"The vocabulary {path} has no rows.")
    table = pa.concat_tables(chunks)
    for name in ("entity", "row"):
        if table[name].null_count:
            raise UserError(f"The vocabulary {path} has missing values in {name!r}.")
    entities = _entities(path, table["entity"], file.kinds["entity"])
    places = _integers(path, "row", table["row"])
    for name, values in (("entity", entities), ("row", places)):
        twice = first_twice(values)
        if twice is not None:
            raise UserError(
                f"The vocabulary {path} holds {name} {twice!r} more than once."
            )
    outside = places[(places < 0) | (places >= rows)]
    if len(outside):
        raise UserError(
            f"The vocabulary {path} must give rows from 0 to {rows - 1}. "
            f"Received: {int(outside[0])}"
        )
    return entities, places


def fingerprint(entities: np.ndarray, places: np.ndarray) -> str:
    """The SHA-256 of a vocabulary as `read_vocabulary` gives it, whatever its order."""
    order = np.argsort(places)
    entities, places = entities[order], places[order].astype("<i8")
    digest = hashlib.sha256(places.tobytes())
    if entities.dtype == object:
        # With the lengths, so that the text falls into entities in one way only.
        lengths = [len(entity) for entity in entities]
        digest.update(np.array(lengths, "<i8").tobytes())
        digest.update(b"".join(entities))
    else:
        digest.update(entities.astype("<i8").tobytes())
    return digest.hexdigest()


class VocabularyRows(RowFinder):
    """Takes rows from a vocabulary. Ids that it lacks share row `rows`, the last.

    The vocabulary becomes part of an export. Its `fingerprint` stands in every
    checkpoint, as another one would give the rows to other ids.

    Args:
        path: see `read_vocabulary`.
    """

    shared_rows = 1

    def __init__(self, table: str, rows: int, path: str, **kwargs):
        super().__init__(table, rows, **kwargs)
        self.path = path

    def build(self, _):
        with tf.init_scope():
            entities, places = read_vocabulary(self.path, self.rows)
            self.fingerprint = fingerprint(entities, places)
            self.lookup = tf.lookup.StaticHashTable(
                tf.lookup.KeyValueTensorInitializer(
                    tf.constant(entities), tf.constant(places)
                ),
                default_value=self.rows,
            )
        super().build(_)

    def call(self, ids: Ids):
        return {name: self._find(name, values) for name, values in ids.items()}

    def _find(self, feature: str, ids: tf.Tensor) -> tf.Tensor:
        if (ids.dtype == tf.string) != (self.lookup.key_dtype == tf.string):
            raise ValueError(
                f"The vocabulary {self.path} of table {self.table!r} holds "
                f"{_words(self.lookup.key_dtype)}, but feature {feature!r} "
                f"{_words(ids.dtype)}."
            )
        return self.lookup.lookup(ids)

    def get_config(self):
        return super().get_config() | {"path": self.path}


def load_snapshot(
    path: str,
    table: tf.Variable,
    rows: int,
    vocabulary: str | None,
) -> float:
    """Puts stored vectors into a table.

    The file is an .npz or a parquet file that holds `vector`, (n, dim), and perhaps
    `entity`, (n,). With entities, each vector goes to its entity's row, entities that
    the vocabulary lacks are left out, and rows without a vector keep their start.
    Without, vector i goes to row i, and there must be as many as rows.

    Args:
        path: may be on any file system.
        table: (rows or more, dim).
        rows: how many of the table's rows have ids of their own.
        vocabulary: path of the vocabulary, if the table has one.

    Returns:
        The share of `rows` that got a vector.

    Raises:
        UserError: the file cannot be read, has vectors of another width, another
            number of them, or entities without a vocabulary or twice.
    """
    by_entity = _row_of_entity(path, rows, vocabulary)
    covered = np.zeros(rows, bool)
    read = 0
    for entities, vectors in vector_chunks(path):
        if vectors.shape[1] != table.shape[1]:
            raise UserError(
                f"The snapshot {path} must hold vectors of {table.shape[1]} numbers, "
                f"as embedding table {table.name.split(':')[0]!r} does. "
                f"Received: {vectors.shape[1]}"
            )
        if entities is None:
            places = np.arange(read, read + len(vectors))
        else:
            places = by_entity(entities)
        read += len(vectors)
        known = (places >= 0) & (places < rows)
        places, vectors = places[known], vectors[known]
        twice = places[covered[places]]
        if len(twice) or len(np.unique(places)) < len(places):
            raise UserError(f"The snapshot {path} holds an entity more than once.")
        covered[places] = True
        table.scatter_update(tf.IndexedSlices(vectors, places))
        last_entities = entities
    if not read:
        raise UserError(f"The snapshot {path} holds no vectors.")
    if last_entities is None and read != rows:
        raise UserError(
            f"The snapshot {path} must hold {rows} vectors, one per row. "
            f"Received: {read}"
        )
    return float(covered.mean())


def _row_of_entity(path: str, rows: int, vocabulary: str | None):
    """Makes the look-up of a snapshot's entities: (n,) -> (n,) rows, -1 if unknown."""
    if vocabulary is None:

        def refuse(_):
            raise UserError(
                f"The snapshot {path} names entities: set TableSpec.vocabulary to say "
                "which rows they have."
            )

        return refuse
    known, places = read_vocabulary(vocabulary, rows)
    order = np.argsort(known)
    known, places = known[order], places[order]

    def find(entities: np.ndarray) -> np.ndarray:
        if entities.dtype != known.dtype:
            raise UserError(
                f"The entities of the snapshot {path} and of the vocabulary "
                f"{vocabulary} must both be integers or both be text."
            )
        at = np.minimum(np.searchsorted(known, entities), len(known) - 1)
        return np.where(known[at] == entities, places[at], -1)

    return find


def vector_chunks(path: str) -> Iterator[tuple[np.ndarray | None, np.ndarray]]:
    """Yields (entities or None, (n, dim) float32 vectors) of a snapshot.

    Entities are int64 or objects of bytes. See `load_snapshot` for the file, and for
    what it raises.
    """
    if posixpath.splitext(path)[1] != ".npz":
        yield from _parquet_chunks(path)
        return
    try:
        with tf.io.gfile.GFile(path, "rb") as file, np.load(file) as arrays:
            stored = {n: arrays[n] for n in ("entity", "vector") if n in arrays}
    except (
        tf.errors.OpError,
        OSError,
        ValueError,
        # What numpy raises for half a file, and for an array that is no archive.
        zipfile.BadZipFile,
        TypeError,
    ) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"The snapshot {path} cannot be read: {reason}") from error
    vectors = stored.get("vector")
    if vectors is None or vectors.ndim != 2:
        shape = "no array of that name" if vectors is None else str(vectors.shape)
        raise UserError(
            f"The snapshot {path} must hold `vector`, (rows, dim). Received: {shape}"
        )
    entities = stored.get("entity")
    if entities is not None and len(entities) != len(vectors):
        raise UserError(
            f"The snapshot {path} must hold as many entities as vectors. Received: "
            f"{len(entities)} and {len(vectors)}"
        )
    if entities is not None:
        entities = _plain(path, entities)
    for start in range(0, len(vectors), _CHUNK):
        part = slice(start, start + _CHUNK)
        yield (
            None if entities is None else entities[part],
            vectors[part].astype(np.float32),
        )


def _parquet_chunks(path: str):
    file = open_table(path)
    file.require(["vector"])
    kind = file.kinds["vector"]
    if kind not in ("vector", "integer list"):
        raise UserError(f"`vector` in the snapshot {path} must be lists. It is {kind}.")
    named = "entity" in file.kinds
    for row, chunk in file.chunks(["entity", "vector"] if named else ["vector"]):
        vectors = chunk["vector"].combine_chunks()
        widths = np.unique(vectors.value_lengths().fill_null(-1).to_numpy(False))
        if len(widths) != 1 or widths[0] < 1:
            raise UserError(
                f"The snapshot {path} must hold vectors of one length. Received: "
                f"lengths {widths.tolist()} in rows {row} to {row + len(chunk) - 1}"
            )
        flat = vectors.flatten()
        if flat.null_count:
            raise UserError(
                f"The snapshot {path} must hold whole vectors. Received: one that "
                f"lacks a number, in rows {row} to {row + len(chunk) - 1}"
            )
        flat = flat.to_numpy(zero_copy_only=False)
        entities = None
        if named:
            if chunk["entity"].null_count:
                column = chunk["entity"].combine_chunks()
                missing = row + column.is_null().index(True).as_py()
                raise UserError(f"The snapshot {path}, row {missing}: no `entity`.")
            entities = _entities(path, chunk["entity"], file.kinds["entity"])
        yield entities, flat.reshape(len(chunk), -1).astype(np.float32)


def _entities(path: str, column: pa.ChunkedArray, kind: str) -> np.ndarray:
    if kind == "integer":
        return _integers(path, "entity", column)
    if kind != "text":
        raise UserError(f"`entity` in {path} must be integers or text. It is {kind}.")
    return np.array([value.encode() for value in column.to_pylist()], object)


def _integers(path: str, name: str, column: pa.ChunkedArray) -> np.ndarray:
    try:
        return column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        raise UserError(f"{name!r} in {path} must be integers: {error}") from error


def _plain(path: str, entities: np.ndarray) -> np.ndarray:
    if entities.dtype.kind in "iu":
        return entities.astype(np.int64)
    if entities.dtype.kind == "U":
        return np.array([value.encode() for value in entities.tolist()], object)
    if entities.dtype.kind == "S":
        return entities.astype(object)
    raise UserError(
        f"`entity` in the snapshot {path} must be integers or text. "
        f"Received: {entities.dtype}"
    )


def first_twice(values: np.ndarray):
    """The least value that appears more than once, or None."""
    ordered = np.sort(values)
    same = ordered[1:] == ordered[:-1]
    if not same.any():
        return None
    least = ordered[1:][same][0]
    return least.decode() if isinstance(least, bytes) else int(least)


def _words(dtype: tf.DType) -> str:
    return "strings" if dtype == tf.string else "integers"
