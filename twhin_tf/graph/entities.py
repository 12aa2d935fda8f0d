"""Vocabularies: which entity each row of a table is, DIR/vocabulary/TYPE.parquet."""

import dataclasses
import hashlib
import posixpath
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.row_files import open_table, write_parquet
from twhin_tf.graph.graph import Graph, NodeType

_STEP = 1 << 20  # entities hashed at once


@dataclasses.dataclass(frozen=True, kw_only=True)
class Entities:
    """The nodes of one type, by row.

    Args:
        ids: what users call the entities, (rows,) int64 or string.
        counts: training edges of each, (rows,) int64; None where unknown.
        communities: the planted community of each in a made-up graph, (rows,) int64;
            None elsewhere.
    """

    ids: pa.Array
    counts: np.ndarray | None = None
    communities: np.ndarray | None = None


def read_entities(graph: Graph, name: str) -> Entities:
    """Reads the entities of the type `name`; without a vocabulary, 0 to rows - 1.

    Raises:
        UserError: the vocabulary is not the one that the edges were made with.
    """
    node_type = graph.types[name]
    path = node_type.vocabulary
    if path is None:
        return Entities(ids=pa.array(np.arange(node_type.rows)))
    file = open_table(path)
    file.require(("entity", "row", "count"))
    table = file.read()
    for column in ("entity", "row", "count"):
        if table[column].null_count:
            raise UserError(f"{path}: column {column!r} has missing values.")
    for column in ("row", "count"):
        if file.kinds[column] != "integer":
            raise UserError(
                f"{path}: column {column!r} must hold whole numbers. Received: "
                f"{table[column].type}"
            )
    rows = table["row"].to_numpy()
    if not np.array_equal(rows, np.arange(len(rows))):
        raise UserError(f"{path}: column 'row' must count 0, 1, 2 ...")
    if len(rows) != node_type.rows:
        raise UserError(
            f"{path} does not belong to {graph.folder}: type {name!r} has "
            f"{node_type.rows} rows. Received: {len(rows)}"
        )
    ids = _as_ids(table["entity"], path)
    received = fingerprint(ids)
    if node_type.fingerprint not in (None, received):
        raise UserError(
            f"{path} does not belong to {graph.folder}: its fingerprint must be "
            f"{node_type.fingerprint}, as in graph.json. Received: {received}"
        )
    communities = None
    if "community" in file.kinds:
        communities = table["community"].to_numpy()
    return Entities(ids=ids, counts=table["count"].to_numpy(), communities=communities)


def write_vocabulary(folder: str, name: str, entities: Entities) -> NodeType:
    """Writes the vocabulary of the type `name` below `folder`; returns the type."""
    path = vocabulary_path(folder, name)
    tf.io.gfile.makedirs(posixpath.dirname(path))
    write_entities(path, entities)
    return NodeType(
        name=name,
        rows=len(entities.ids),
        vocabulary=path,
        fingerprint=fingerprint(entities.ids),
    )


def write_entities(path: str, entities: Entities) -> None:
    """Writes the columns entity, row, count, and community if there are any."""
    rows = np.arange(len(entities.ids))
    columns = {
        "entity": entities.ids,
        "row": pa.array(rows),
        "count": pa.array(rows * 0 if entities.counts is None else entities.counts),
    }
    if entities.communities is not None:
        columns["community"] = pa.array(entities.communities)
    write_parquet(path, pa.table(columns))


def vocabulary_path(folder: str, name: str) -> str:
    """The path of the vocabulary of the type `name`, below a graph's folder."""
    return posixpath.join(folder, "vocabulary", f"{file_stem(name)}.parquet")


def file_stem(node_type: str) -> str:
    """A type's name as files can have it.

    >>> file_stem("ad/creative")
    'ad%2Fcreative'
    """
    return quote(node_type, safe=" ")


def fingerprint(ids: pa.Array) -> str:
    """Hashes the ids and their order, whatever way Arrow stores them."""
    lengths, values = hashlib.blake2b(digest_size=8), hashlib.blake2b(digest_size=8)
    for start in range(0, len(ids), _STEP):
        part = ids.slice(start, _STEP)
        if pa.types.is_integer(part.type):
            values.update(part.to_numpy().astype("<i8").tobytes())
        else:
            part = part.cast(pa.large_binary())
            counts = pc.binary_length(part).to_numpy()
            lengths.update(counts.astype("<i8").tobytes())
            values.update(b"".join(part.to_pylist()))
    return lengths.hexdigest()[:8] + values.hexdigest()


def _as_ids(column: pa.ChunkedArray, path: str) -> pa.Array:
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks)
    if pa.types.is_integer(array.type):
        return array.cast(pa.int64())
    if pa.types.is_string(array.type) or pa.types.is_large_string(array.type):
        return array.cast(pa.large_string())
    raise UserError(
        f"{path}: column 'entity' must hold whole numbers or texts. Received: "
        f"{array.type}"
    )
