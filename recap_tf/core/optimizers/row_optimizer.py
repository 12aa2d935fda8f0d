"""What optimizers of single rows share: an update touches its batch's rows only.

Each is a Keras optimizer, and says how a TPU's embedding cores do the same. Formulas
are per row of the table; g is the sum of a row's gradients over the batch, t counts
updates from 1. Rows that a batch does not hold keep their weights and their state.
"""

from collections.abc import Callable, Mapping, Sequence

import tensorflow as tf

from recap_tf.core import keras_privates
from recap_tf.core.storage.half_precision import AsFloat32
from recap_tf.core.storage.sharded_tables import ShardedVariable

WIDE = 32
"""Numbers per row from which on rows are fetched, changed and put back."""


class RowOptimizer:
    """An optimizer of single rows: what it offers beside Keras's interface."""

    set_elsewhere = {"learning_rate": "TableSpec.learning_rate"}
    """Parameter that a config file does not set -> the setting it comes from."""

    def slot_starts(self) -> Mapping[str, float]:
        """The state kept per row: Keras's name of it -> the value it starts from."""
        raise NotImplementedError("A row optimizer defines slot_starts().")

    def as_tpu(self, learning_rate: float | Callable[[], tf.Tensor]):
        """The `tf.tpu.experimental.embedding` optimizer with these settings.

        Raises:
            ValueError: TPUs have none.
        """
        raise NotImplementedError("A row optimizer defines as_tpu().")

    def tpu_slots(self) -> Mapping[str, Sequence[str]]:
        """TPUs' names of the state kept per row; of several, side by side."""
        return {name: [f"{name}s"] for name in self.slot_starts()}

    def tpu_offsets(self) -> Mapping[str, float]:
        """By how much a TPU's state is above ours: its name -> that, where it is."""
        return {}

    def _resource_apply_sparse_duplicate_indices(self, grad, handle, indices, **kwargs):
        grad, indices = add_up(grad, indices)
        if handle.dtype != tf.float32:
            # By nothing that differs among the copies of a mirrored table.
            seed = tf.stack([tf.zeros_like(self.iterations), self.iterations])
            handle = AsFloat32(handle, seed)
        return self._resource_apply_sparse(grad, handle, indices, **kwargs)

    def add_slot(self, var, slot_name, initializer="zeros", shape=None):
        if var.dtype != tf.float32:
            # State of 16-bit tables is float32: sums of squares need the digits.
            var = AsFloat32(var)
        return super().add_slot(var, slot_name, initializer, shape)

    def _hypers(self, var, apply_state) -> Mapping[str, tf.Tensor]:
        """This update's numbers, "lr_t" among them, where `var` is."""
        return keras_privates.update_numbers(self, var, apply_state)

    def get_slot(self, var, slot_name):
        if not isinstance(var, ShardedVariable):
            return super().get_slot(var, slot_name)
        # Keras puts a new one together each time; checkpoints go by identity.
        slots = vars(self).setdefault("_slots_of_sharded", {})
        key = (id(var), slot_name)
        if key not in slots:
            slots[key] = super().get_slot(var, slot_name)
        return slots[key]

    def reset_rows(self, table: tf.Variable, rows: tf.Tensor) -> None:
        """Forgets what was learned about `rows`, (n,) integers, of `table`."""
        for name, start in self.slot_starts().items():
            slot = self.get_slot(table, name)
            shape = tf.concat([tf.shape(rows), slot.shape[1:]], axis=0)
            slot.scatter_update(
                tf.IndexedSlices(tf.fill(shape, tf.cast(start, slot.dtype)), rows)
            )


class WholeTableByRows(RowOptimizer):
    """An optimizer whose update of a whole table is that of all its rows."""

    def _resource_apply_dense(self, grad, var, apply_state=None):
        every = tf.range(var.shape[0])
        return self._resource_apply_sparse(grad, var, every, apply_state)


def subtract(var: tf.Variable, indices: tf.Tensor, change: tf.Tensor):
    """Takes `change` from rows, each of which comes once."""
    if var.shape[-1] < WIDE:
        return var.scatter_sub(tf.IndexedSlices(change, indices))
    # Fetching wide rows and putting them back is many times faster than TensorFlow's
    # scattered subtraction, which waits for one row of memory after the other.
    rows = tf.gather(var, indices) - change
    return var.scatter_update(tf.IndexedSlices(rows, indices))


def add_up(grad: tf.Tensor, indices: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Adds up gradients of rows that come several times; each row once, ascending.

    As Keras does, but by sorting, at half the cost.
    """
    order = tf.argsort(indices)
    indices = tf.gather(indices, order)
    # Not [[True], ...]: there may be no row at all.
    start = tf.ones_like(indices[:1], tf.bool)
    first = tf.concat([start, indices[1:] != indices[:-1]], axis=0)
    number = tf.cumsum(tf.cast(first, tf.int32)) - 1
    summed = tf.math.segment_sum(tf.gather(grad, order), number)
    return summed, tf.boolean_mask(indices, first)
