"""Moves tables and their state between a TPU's embedding cores and variables.

What the cores hold comes and goes by checkpoints: TensorFlow offers no other way that
is public. So it passes through files.
"""

import posixpath
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.optimizers.grouped import Optimizer

_VECTORS = "parameters"

Variables = Mapping[str, tuple[Optimizer, tf.Variable]]
"""Table -> its row optimizer, with slots, and itself; as if trained off TPU."""


class TpuTransfer:
    """Moves the tables of a layer.

    All tables, and what their optimizers know of rows, are copied whole: while they
    move, the host holds them twice besides what TensorFlow stages.

    Args:
        tables: the layer, built under its TPUStrategy.
        folder: of the files, for a short time; where the TPU's hosts reach it, too.
    """

    def __init__(self, tables: EmbeddingTables, folder: str):
        self._tables, self._folder = tables, folder

    def fetch(self, variables: Variables) -> None:
        """Copies the cores' values into `variables`."""
        plain = self._tables.off_tpu()
        self._pass(self._in_cores(), plain)
        for name, state in _state(plain).items():
            optimizer, table = variables[name]
            above = optimizer.tpu_offsets()
            table.assign(state[_VECTORS])
            for slot, parts in optimizer.tpu_slots().items():
                columns = [state[part] - above.get(part, 0.0) for part in parts]
                optimizer.get_slot(table, slot).assign(tf.concat(columns, axis=-1))

    def send(self, variables: Variables) -> None:
        """Copies the values of `variables` into the cores."""
        plain = self._tables.off_tpu()
        for name, state in _state(plain).items():
            optimizer, table = variables[name]
            above = optimizer.tpu_offsets()
            state[_VECTORS].assign(table)
            for slot, parts in optimizer.tpu_slots().items():
                columns = tf.split(optimizer.get_slot(table, slot), len(parts), axis=-1)
                for part, values in zip(parts, columns, strict=True):
                    state[part].assign(values + above.get(part, 0.0))
        self._pass(plain, self._in_cores())

    def _in_cores(self) -> Any:
        return _children(self._tables.embedding)["_tpu_embedding"]

    def _pass(self, source: Any, target: Any) -> None:
        self._cleared()
        tf.io.gfile.makedirs(self._folder)
        path = posixpath.join(self._folder, "tables")
        tf.train.Checkpoint(tables=source).write(path)
        status = tf.train.Checkpoint(tables=target).read(path)
        status.assert_existing_objects_matched().expect_partial()
        self._cleared()

    def _cleared(self) -> None:
        if tf.io.gfile.exists(self._folder):
            tf.io.gfile.rmtree(self._folder)


def _state(plain: Any) -> dict[str, dict[str, tf.Variable]]:
    """Variables of tables: table -> "parameters" or the name of a state -> variable."""
    tables = _children(_children(plain)["_variables"])
    return {name: dict(_children(table)) for name, table in tables.items()}


def _children(node: Any) -> dict[str, Any]:
    """What checkpoints hold below `node`: names that no TensorFlow can change."""
    return tf.train.TrackableView(node).children(node)
