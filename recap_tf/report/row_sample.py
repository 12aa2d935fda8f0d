"""Rows of a stream, drawn at random in bounded memory."""

from collections.abc import Mapping

import numpy as np
import tensorflow as tf

Columns = dict[str, np.ndarray]
"""Name -> (rows, ...); of a sparse feature (rows,) arrays, one for each row."""


class RowSample:
    """A uniform sample without replacement of the rows that were added.

    Every row gets a random key, and those with the smallest keys stay. At most twice
    `size` rows are held at a time.

    Args:
        size: how many rows stay; 0 for none.
        seed: of the keys; the same seed draws the same rows of the same stream.
    """

    def __init__(self, size: int, seed: int = 0):
        self.size = size
        self.seen = 0
        self._random = np.random.default_rng(seed)
        self._threshold = np.inf
        self._keys = np.empty(0)
        self._parts: list[Columns] = []

    def add(self, columns: Mapping[str, tf.Tensor | tf.SparseTensor]) -> None:
        """Adds a batch: name -> (batch, ...)."""
        first = next(iter(columns.values()))
        rows = int(first.shape[0])
        self.seen += rows
        keys = self._random.random(rows)
        chosen = np.flatnonzero(keys < self._threshold) if self.size else []
        if not len(chosen):
            return
        self._keys = np.concatenate([self._keys, keys[chosen]])
        self._parts.append({name: _rows(v)[chosen] for name, v in columns.items()})
        if len(self._keys) >= 2 * self.size:
            self._shrink()

    def rows(self) -> Columns:
        """The sample so far, in the order of the stream; empty if nothing came."""
        if self._parts:
            self._shrink()
        return self._parts[0] if self._parts else {}

    def _shrink(self) -> None:
        columns = {
            name: np.concatenate([part[name] for part in self._parts])
            for name in self._parts[0]
        }
        if len(self._keys) > self.size:
            chosen = np.sort(np.argpartition(self._keys, self.size - 1)[: self.size])
            self._keys = self._keys[chosen]
            self._threshold = self._keys.max()
            columns = {name: values[chosen] for name, values in columns.items()}
        self._parts = [columns]


def _rows(values: tf.Tensor | tf.SparseTensor) -> np.ndarray:
    if not isinstance(values, tf.SparseTensor):
        return values.numpy()
    ragged = tf.RaggedTensor.from_sparse(values)
    parts = np.split(ragged.flat_values.numpy(), ragged.row_splits.numpy()[1:-1])
    rows = np.empty(len(parts), object)
    for i, part in enumerate(parts):
        rows[i] = part
    return rows


def as_tensors(columns: Columns) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """The columns as a model takes them."""
    return {
        name: _sparse(values) if is_sparse(values) else tf.constant(values)
        for name, values in columns.items()
    }


def is_sparse(values: np.ndarray) -> bool:
    """Whether these are the rows of a sparse feature."""
    # Bytes are objects too.
    return values.dtype == object and isinstance(values.flat[0], np.ndarray)


def _sparse(rows: np.ndarray) -> tf.SparseTensor:
    values, lengths = np.concatenate(rows), [len(row) for row in rows]
    flat = tf.constant(values, tf.string if values.dtype == object else None)
    return tf.RaggedTensor.from_row_lengths(flat, lengths).to_sparse()
