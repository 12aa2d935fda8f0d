"""Tables of 16-bit numbers that are computed with, and updated, in float32.

Added to a 16-bit number, most updates of training are less than half of its last digit
and would be lost. Rounded up or down at random, with the nearer of the two the more
likely, they arrive on average (Gupta et al. 2015, arXiv:1502.02551, section 3; Zhang et
al. 2018, "Training with Low-precision Embedding Tables").
"""

import tensorflow as tf

from recap_tf.core.storage.sharded_tables import ShardedVariable, read_shards

_LEAST_NORMAL_HALF = 2.0**-14
_HALF_STEP = 2.0**-24
_LARGEST_HALF = 65504.0


def read_rows(table: tf.Variable | ShardedVariable, rows: tf.Tensor) -> tf.Tensor:
    """Rows of a table, (..., dim) float32; their gradient is float32 as well.

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


def round_randomly(values: tf.Tensor, dtype: tf.DType, seed: tf.Tensor) -> tf.Tensor:
    """float32 -> `dtype`, up or down with a mean that is the value itself.

    Args:
        values: finite.
        dtype: tf.bfloat16 or tf.float16; what the latter cannot hold becomes its
            largest number.
        seed: (2,) integers.
    """
    dropped = {tf.bfloat16: 16, tf.float16: 13}[dtype]
    if dtype == tf.float16:
        values = tf.clip_by_value(values, -_LARGEST_HALF, _LARGEST_HALF)
    noise = tf.random.stateless_uniform(
        tf.shape(values), seed, 0, 2**dropped, dtype=tf.int32
    )
    # Of the magnitude's last digits: what carries over is one step of the new type.
    bits = tf.bitcast(values, tf.int32) + noise
    rounded = tf.bitcast(tf.bitwise.bitwise_and(bits, -(2**dropped)), tf.float32)
    if dtype == tf.float16:
        share = tf.cast(noise, tf.float32) / 2.0**dropped
        below = tf.floor(values / _HALF_STEP + share) * _HALF_STEP
        rounded = tf.where(tf.abs(values) < _LEAST_NORMAL_HALF, below, rounded)
    return tf.cast(rounded, dtype)


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
        """What `tf.gather` calls."""
        return tf.cast(tf.gather(self._table, indices, name=name), tf.float32)

    def scatter_update(self, slices: tf.IndexedSlices):
        """Replaces rows."""
        rounded = round_randomly(slices.values, self._table.dtype, self._seed)
        return self._table.scatter_update(tf.IndexedSlices(rounded, slices.indices))

    def scatter_sub(self, slices: tf.IndexedSlices):
        """Subtracts from rows, each of which comes once."""
        values = self.sparse_read(slices.indices) - slices.values
        return self.scatter_update(tf.IndexedSlices(values, slices.indices))
