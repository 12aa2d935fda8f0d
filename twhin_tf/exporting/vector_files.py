"""Vectors as files: parquet with their entities, and one plain array."""

import posixpath
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import tensorflow as tf

from recap_tf.core.row_files import parquet_writer
from recap_tf.core.storage.half_precision import read_rows

_BLOCK = 65_536


def file_stem(node_type: str) -> str:
    """The name of a type's files."""
    # A type's name may hold letters that a file's may not.
    return quote(node_type, safe=" ")


def write_vectors(
    folder: str, node_type: str, ids: pa.Array, table: tf.Variable
) -> list[str]:
    """Writes TYPE.parquet (entity, vector) and TYPE.npy (rows, dim), float32.

    Args:
        folder: where to.
        node_type: the type.
        ids: of its entities, in the order of the rows.
        table: (rows, dim); read in blocks of rows.

    Returns:
        The paths.
    """
    rows, dim = table.shape
    stem = posixpath.join(folder, file_stem(node_type))
    schema = pa.schema([("entity", ids.type), ("vector", pa.list_(pa.float32()))])
    array = {"descr": "<f4", "fortran_order": False, "shape": (rows, dim)}
    with (
        tf.io.gfile.GFile(f"{stem}.npy", "wb") as npy,
        parquet_writer(f"{stem}.parquet", schema) as writer,
    ):
        np.lib.format.write_array_header_1_0(npy, array)
        for start in range(0, rows, _BLOCK):
            stop = min(start + _BLOCK, rows)
            vectors = read_rows(table, tf.range(start, stop))
            vectors = np.ascontiguousarray(vectors, "<f4")
            npy.write(vectors.tobytes())
            offsets = pa.array(np.arange(stop - start + 1, dtype=np.int32) * dim)
            lists = pa.ListArray.from_arrays(offsets, pa.array(vectors.reshape(-1)))
            own = ids.slice(start, stop - start)
            writer.write_table(pa.table([own, lists], schema=schema))
    return [f"{stem}.parquet", f"{stem}.npy"]
