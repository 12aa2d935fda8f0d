"""Parquet files of edges: lhs, rel, rhs, as rows and relation numbers.

DIR/SPLIT/edges-00000.parquet ...
"""

import posixpath
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.row_files import ParquetTable, TableFile, open_table, write_parquet
from twhin_tf.graph.graph import Graph

COLUMNS = ("lhs", "rel", "rhs")
# In the files' metadata, so that it must stay as it is.
_FINGERPRINT = b"twhin_tf.graph"


def write_edges(graph: Graph, split: str, index: int, edges: np.ndarray) -> None:
    """Writes (n, 3) whole numbers as file `index` of a split."""
    folder = posixpath.join(graph.folder, split)
    tf.io.gfile.makedirs(folder)
    columns = {
        name: pa.array(edges[:, i], pa.int64()) for i, name in enumerate(COLUMNS)
    }
    table = pa.table(columns).replace_schema_metadata(
        {_FINGERPRINT: graph.fingerprint.encode()}
    )
    write_parquet(posixpath.join(folder, f"edges-{index:05d}.parquet"), table)


def read_split(
    graph: Graph, split: str, limit: int | None = None, offset: int = 0
) -> Iterator[np.ndarray]:
    """Yields the edges of a split in their order, (n, 3) int32, chunk by chunk.

    Args:
        graph: the graph they are of.
        split: one of `graph.splits`.
        limit: stop after so many edges; None for no limit.
        offset: leave out the first so many.

    Raises:
        UserError: a file is unfit, see `read_edge_file`.
    """
    left = np.inf if limit is None else limit
    for path in graph.edge_files(split):
        for chunk in read_edge_file(graph, path):
            part = chunk[offset:]
            offset -= len(chunk) - len(part)
            part = part[: int(min(left, len(part)))]
            left -= len(part)
            if len(part):
                yield part
            if not left:
                return


def read_edge_file(graph: Graph, path: str) -> Iterator[np.ndarray]:
    """Yields the edges of one file, (n, 3) int32, some ten thousand at once.

    Raises:
        UserError: the file is empty or was made with other vocabularies; a column is
            missing or of another type; a value is missing; a relation or row is
            none of the graph's.
    """
    file = open_table(path)
    file.require(COLUMNS)
    for name in COLUMNS:
        if file.kinds[name] != "integer":
            raise UserError(
                f"{path}: column {name!r} must hold whole numbers. Received: "
                f"{file.kinds[name]}"
            )
    if not file.rows:
        raise UserError(f"{path} has no rows.")
    _check_fingerprint(graph, file)
    limits = _NumberLimits(graph)
    for first, table in file.chunks(COLUMNS):
        columns = [_as_int64(table[name], name, path, first) for name in COLUMNS]
        edges = np.stack(columns, axis=1)
        limits.check(edges, path, first)
        yield edges.astype(np.int32)


class _NumberLimits:
    """The numbers that edges of a graph may hold."""

    def __init__(self, graph: Graph):
        self._graph = graph
        self._rows = np.array(
            [
                [graph.types[r.lhs].rows, graph.types[r.rhs].rows]
                for r in graph.relations
            ]
        )
        self._stored = np.array(graph.stored)

    def check(self, edges: np.ndarray, path: str, first: int) -> None:
        """Raises UserError for the first wrong number; `first` is that of edges[0]."""
        rel = edges[:, 1]
        bad = (rel < 0) | (rel >= len(self._rows))
        if bad.any():
            row = np.flatnonzero(bad)[0]
            raise UserError(
                f"{path}, row {first + row}: rel must be at least 0 and below "
                f"{len(self._rows)}, the number of relations. Received: {rel[row]}"
            )
        if not self._stored[rel].all():
            row = np.flatnonzero(~self._stored[rel])[0]
            relation = self._graph.relations[rel[row]]
            raise UserError(
                f"{path}, row {first + row}: rel must be a relation that is stored; "
                f"{relation.name!r} is made from {relation.inverse_of!r}. Received: "
                f"{rel[row]}"
            )
        for side, name in ((0, "lhs"), (2, "rhs")):
            ids = edges[:, side]
            bad = (ids < 0) | (ids >= self._rows[rel, side // 2])
            if bad.any():
                row = np.flatnonzero(bad)[0]
                relation = self._graph.relations[rel[row]]
                table = self._graph.types[getattr(relation, name)]
                raise UserError(
                    f"{path}, row {first + row}: {name} must be at least 0 and below "
                    f"{table.rows}, the rows of table {table.name!r}. Received: "
                    f"{ids[row]}"
                )


def _as_int64(column: pa.ChunkedArray, name: str, path: str, first: int) -> np.ndarray:
    if column.null_count:
        row = first + column.combine_chunks().is_null().index(True).as_py()
        raise UserError(f"{path}, row {row}: column {name!r} has a missing value.")
    try:
        return column.cast(pa.int64()).to_numpy()
    except pa.ArrowInvalid as error:
        # Of unsigned numbers the largest do not fit.
        row = np.flatnonzero(column.to_numpy() > np.uint64(2**63 - 1))[0]
        raise UserError(
            f"{path}, row {first + row}: {name} must be at least 0 and below 2^63. "
            f"Received: {column[int(row)].as_py()}"
        ) from error


def _check_fingerprint(graph: Graph, file: TableFile) -> None:
    metadata = file.metadata if isinstance(file, ParquetTable) else {}
    written = metadata.get(_FINGERPRINT)
    # Files that another program wrote have none.
    if written is not None and written.decode() != graph.fingerprint:
        raise UserError(
            f"{file.path} does not belong to the vocabularies of {graph.folder}: its "
            f"fingerprint must be {graph.fingerprint}. Received: {written.decode()}"
        )
