"""Impressions -> edges of who engaged with what, for graph embeddings."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recap_tf.conversion.impressions import Impressions
from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.row_files import parquet_writer
from recap_tf.core.values.canonical_text import canonical_texts

_NAMES = ("head", "relation", "tail")


def write_edges(
    rows: Impressions, nodes: Sequence[str], validation_share: float, path: str
) -> dict[str, int]:
    """Writes the columns head, relation, tail; a row that lacks a node gives no edge.

    The parquet file appears complete or not at all.

    Args:
        rows: with the labels that become relations.
        nodes: two columns, of the heads and of the tails.
        validation_share: in [0, 1); so many of the rows, the last ones, are left out.

    Returns:
        Label -> how many edges it gave.

    Raises:
        UserError: no label holds anywhere, or a column of nodes holds no ids.
    """
    rows.require(nodes)
    total = rows.count()
    end = total - round(total * validation_share)
    counts = dict.fromkeys((label.name for label in rows.labels), 0)
    types = [_id_type(rows.kinds[name], name) for name in nodes]
    with files.replacing(path) as aside:
        # An id that int64 does not hold makes its column one of texts.
        while not _write(rows, nodes, types, end, aside, counts):
            counts = dict.fromkeys(counts, 0)
        if not any(counts.values()):
            raise UserError(
                f"--labels {', '.join(counts)}: none of them holds in any of the "
                f"{end:,} rows, so there are no edges."
            )
    return counts


def _write(
    rows: Impressions,
    nodes: Sequence[str],
    types: list[pa.DataType],
    end: int,
    path: str,
    counts: dict[str, int],
) -> bool:
    """Writes and counts the edges; False if one of `types` had to become text."""
    chunks = rows.chunks(nodes, window=(0, end), doing="writing edges")
    kinds = (types[0], pa.string(), types[1])
    schema = pa.schema(zip(_NAMES, kinds, strict=True))
    with parquet_writer(path, schema) as writer:
        for chunk in chunks:
            ends = [chunk.column(name) for name in nodes]
            given = ends[0].is_valid().to_numpy(False)
            given &= ends[1].is_valid().to_numpy(False)
            for side, kind in enumerate(types):
                try:
                    ends[side] = _ids(ends[side], kind)
                except pa.ArrowInvalid:
                    types[side] = pa.string()
                    return False
            for number, label in enumerate(rows.labels):
                holds = pa.array(given & (chunk.labels[:, number] == 1))
                heads, tails = (ids.filter(holds) for ids in ends)
                relation = pa.array(np.full(len(heads), label.name), pa.string())
                writer.write_table(pa.table([heads, relation, tails], schema=schema))
                counts[label.name] += len(heads)
    return True


def _ids(column: pa.Array, kind: pa.DataType) -> pa.Array:
    if kind == pa.int64():
        return column.cast(kind)
    return canonical_texts(column).cast(kind)


def _id_type(kind: str, name: str) -> pa.DataType:
    types = {"integer": pa.int64(), "text": pa.string()}
    if kind not in types:
        raise UserError(
            f"--nodes names {name!r}, which holds {kind} values; ids are integers or "
            "text."
        )
    return types[kind]
