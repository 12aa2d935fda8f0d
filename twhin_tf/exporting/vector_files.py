"""Vectors as files: parquet with their entities, and one plain array."""

import posixpath

import numpy as np
import pyarrow as pa
import tensorflow as tf

from recap_tf.core.row_files import parquet_writer
from recap_tf.core.storage.half_precision import read_rows
from twhin_tf.graph.entities import file_stem

_BLOCK = 65_536


def write_vectors(
    folder: str, node_type: str, ids: pa.Array, table: tf.Variable
) -> list[str]:
    """Writes TYPE.parquet (entity, vector) and TYPE.npy (rows, dim), float32.

    Args:
        folder: of the two files.
        node_type: name of the type, see `file_stem`.
        ids: of its entities, in the order of the rows.
        table: (rows, dim); read in blocks of rows.

    Returns:
        The paths of the two files.
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
            entities = ids.slice(start, stop - start)
            writer.write_table(pa.table([entities, lists], schema=schema))
    return [f"{stem}.parquet", f"{stem}.npy"]
