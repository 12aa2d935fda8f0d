"""Tables of 16-bit numbers that are computed with, and updated, in float32.

What is written to them is rounded at random; `stochastic_rounding` says why.
"""

import tensorflow as tf

from recap_tf.core.storage.sharded_tables import ShardedVariable, read_shards
from recap_tf.core.storage.stochastic_rounding import round_randomly


def read_rows(table: tf.Variable | ShardedVariable, rows: tf.Tensor) -> tf.Tensor:
    """Reads rows of a table, (..., dim) float32; their gradient is float32 as well.

    Args:
        table: (rows, dim) of any float type; it may be sharded.
        rows: (...) integers.
    """
    if isinstance(table, ShardedVariable):
        return read_shards(table, tf.convert_to_tensor(rows), read_rows)
    if table.dtype == tf.float32:
        return tf.gather(table, rows)

    @tf.custom_gradient
    def read(rows):
        # That of the cast would be 16-bit: gradients of a mean are often too small.
        def gradient(upstream, variables=None):
            flat = tf.reshape(upstream, [-1, table.shape[1]])
            slices = tf.IndexedSlices(
                flat, tf.reshape(rows, [-1]), tf.constant(table.shape.as_list())
            )
            return None, [slices]

        return tf.cast(tf.gather(table, rows), tf.float32), gradient

    return read(rows)


class AsFloat32:
    """A 16-bit table as an optimizer sees it: a float32 one.

    Args:
        table: the variable; all but what is defined here comes from it.
        seed: (2,) integers, of the rounding; not needed where nothing is written.
    """

    dtype = tf.float32

    def __init__(self, table: tf.Variable, seed: tf.Tensor | None = None):
        self._table, self._seed = table, seed

    def __getattr__(self, name):
        return getattr(self._table, name)

    @property
    def __class__(self):
        # Strategies make state beside what is one of their variables.
        return type(self._table)

    def sparse_read(self, indices: tf.Tensor, name: str | None = None) -> tf.Tensor:
        """Reads rows; `tf.gather` calls it."""
        return tf.cast(tf.gather(self._table, indices, name=name), tf.float32)

    def scatter_update(self, slices: tf.IndexedSlices):
        """Replaces rows."""
        rounded = round_randomly(slices.values, self._table.dtype, self._seed)
        return self._table.scatter_update(tf.IndexedSlices(rounded, slices.indices))

    def scatter_sub(self, slices: tf.IndexedSlices):
        """Subtracts from rows, each of which comes once."""
        values = self.sparse_read(slices.indices) - slices.values
        return self.scatter_update(tf.IndexedSlices(values, slices.indices))
