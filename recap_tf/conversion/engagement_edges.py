"""Impressions -> edges of who engaged with what, for graph embeddings."""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa

from recap_tf.conversion.impressions import Impressions
from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.row_files import parquet_writer

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
    with files.replacing(path) as aside:
        chunks = rows.chunks(nodes, window=(0, end), doing="writing edges")
        head, tail = (_id_type(rows.kinds[name], name) for name in nodes)
        schema = pa.schema(zip(_NAMES, (head, pa.string(), tail), strict=True))
        with parquet_writer(aside, schema) as writer:
            for chunk in chunks:
                ends = [chunk.column(name) for name in nodes]
                given = ends[0].is_valid().to_numpy(False)
                given &= ends[1].is_valid().to_numpy(False)
                for number, label in enumerate(rows.labels):
                    holds = pa.array(given & (chunk.labels[:, number] == 1))
                    heads, tails = (end.filter(holds) for end in ends)
                    relation = pa.array(np.full(len(heads), label.name), pa.string())
                    columns = [heads.cast(head), relation, tails.cast(tail)]
                    writer.write_table(pa.table(columns, schema=schema))
                    counts[label.name] += len(heads)
        if not any(counts.values()):
            raise UserError(
                f"--labels {', '.join(counts)}: none of them holds in any of the "
                f"{end:,} rows, so there are no edges."
            )
    return counts


def _id_type(kind: str, name: str) -> pa.DataType:
    types = {"integer": pa.int64(), "text": pa.string()}
    if kind not in types:
        raise UserError(
            f"--nodes names {name!r}, which holds {kind} values; ids are integers or "
            "text."
        )
    return types[kind]
