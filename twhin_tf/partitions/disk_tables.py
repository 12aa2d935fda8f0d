"""Node tables that are read from disk row by row, once they are trained."""

import numpy as np
import tensorflow as tf

from recap_tf.core.command import UserError
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.partitions.partition_files import PartitionFiles


class PartitionedTable:
    """A node table on disk: `tf.gather` and slices read the rows that they ask for.

    Args:
        name: of the node type.
        files: of the partitions of all types.
    """

    def __init__(self, name: str, files: PartitionFiles):
        self._type, self._files = name, files
        self.name = f"{name}:0"
        rows = files.layout.graph.types[name].rows
        self.shape = tf.TensorShape([rows, files.formats[name].dim])
        self.dtype = tf.as_dtype(files.formats[name].storage)

    def sparse_read(self, indices: tf.Tensor, name: str | None = None) -> tf.Tensor:
        """Reads rows, (...) -> (..., dim); what `tf.gather` calls."""
        rows = np.asarray(indices)
        flat = rows.reshape(-1)
        row_format, count = self._files.formats[self._type], self._files.layout.count
        vectors = np.empty((len(flat), row_format.dim), row_format.dtype)
        parts = flat % count
        for part in np.unique(parts).tolist():
            places = np.flatnonzero(parts == part)
            part_rows = flat[places] // count
            vectors[places] = self._files.vectors(self._type, part, part_rows)
        return tf.constant(vectors.reshape(*rows.shape, row_format.dim))

    def __getitem__(self, rows: slice) -> tf.Tensor:
        return self.sparse_read(np.arange(*rows.indices(self.shape[0])))

    def __len__(self) -> int:
        return self.shape[0]

    def __tf_tensor__(self, dtype=None, name=None):
        raise TypeError(f"Table {self._type!r} is on disk and cannot be a tensor.")


def check_in_memory(model: GraphEmbeddings) -> None:
    """Raises UserError if a table is on disk, for exports that take tables whole."""
    for table in model.tables.values():
        if isinstance(table, PartitionedTable):
            refuse_whole_tables()


def refuse_whole_tables(trained: str = "twhin.train.partitions") -> None:
    """Raises UserError: exports that take tables whole are not to be had.

    Args:
        trained: the setting that makes the tables too large for them.
    """
    raise UserError(
        "twhin.export.quantization and twhin.export.top_k must be None for tables "
        f"trained with {trained}, which they would read into memory whole; vectors, "
        "projector and plot are exported without."
    )
