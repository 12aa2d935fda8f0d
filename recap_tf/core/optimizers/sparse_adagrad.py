"""Adagrad of single rows of tables, with an accumulator per number or per row."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core import keras_privates
from recap_tf.core.checks import check_range
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.row_optimizer import (
    RowOptimizer,
    WholeTableByRows,
    subtract,
)

_on_tpu = tf.tpu.experimental.embedding


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class SparseAdagrad(RowOptimizer, keras.optimizers.legacy.Adagrad):
    """Adagrad of the rows of a batch (Duchi et al. 2011).

        a += g^2;  w -= lr * g / (sqrt(a) + 1e-7)

    Args:
        learning_rate: a number or a schedule.
        initial_accumulator_value: what a starts from, at least 0.

    >>> import tensorflow as tf
    >>> from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
    >>> table = tf.Variable(tf.ones([4, 2]))
    >>> slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([3]))
    >>> _ = SparseAdagrad(learning_rate=0.5).apply_gradients([(slices, table)])
    >>> [round(float(number), 3) for number in table[:, 0]]
    [1.0, 1.0, 1.0, 0.523]
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        initial_accumulator_value: float = 0.1,
        name: str = "SparseAdagrad",
    ):
        super().__init__(learning_rate, initial_accumulator_value, name=name)
        self.initial_accumulator_value = initial_accumulator_value

    def slot_starts(self):
        return {"accumulator": self.initial_accumulator_value}

    def as_tpu(self, learning_rate):
        return _on_tpu.Adagrad(learning_rate, self.initial_accumulator_value)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        # Keras's fused op waits for one row of memory after the other; gathering
        # fetches ahead.
        state = self._hypers(var, apply_state)
        slot = self.get_slot(var, "accumulator")
        sums = tf.gather(slot, indices) + tf.square(grad)
        slot.scatter_update(tf.IndexedSlices(sums, indices))
        change = state["lr_t"] * grad / (tf.sqrt(sums) + state["epsilon"])
        return subtract(var, indices, change)

    def get_config(self):
        config = super().get_config()
        names = ("learning_rate", "initial_accumulator_value", "name")
        return {name: config[name] for name in names}


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class RowWiseAdagrad(WholeTableByRows, keras.optimizers.legacy.Optimizer):
    """Adagrad with one accumulator per row: a table's state is 1 / dim of its size.

        a += mean(g^2);  w -= lr * g / (sqrt(a) + epsilon)

    Mudigere et al. 2021 (arXiv:2104.05158, section 4.1.4). TPUs do not have it.

    Args:
        learning_rate: a number or a schedule.
        initial_accumulator_value: what a starts from, at least 0.
        epsilon: added to the root.

    >>> import tensorflow as tf
    >>> from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad
    >>> table = tf.Variable(tf.ones([4, 2]))
    >>> slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([3]))
    >>> _ = RowWiseAdagrad(learning_rate=0.5).apply_gradients([(slices, table)])
    >>> [round(float(number), 3) for number in table[:, 0]]
    [1.0, 1.0, 1.0, 0.523]
    """

    _HAS_AGGREGATE_GRAD = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        initial_accumulator_value: float = 0.1,
        epsilon: float = 1e-7,
        name: str = "RowWiseAdagrad",
    ):
        super().__init__(name)
        setting = "RowWiseAdagrad.initial_accumulator_value"
        check_range(setting, initial_accumulator_value, at_least=0)
        keras_privates.set_learning_rate(self, learning_rate)
        self.initial_accumulator_value = initial_accumulator_value
        self.epsilon = epsilon

    def slot_starts(self):
        return {"accumulator": self.initial_accumulator_value}

    def as_tpu(self, learning_rate):
        raise ValueError(
            "RowWiseAdagrad does not exist on TPUs. Use SparseAdagrad there."
        )

    def _create_slots(self, var_list):
        start = keras.initializers.Constant(self.initial_accumulator_value)
        for var in var_list:
            self.add_slot(var, "accumulator", start, shape=var.shape[:1])

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        slot = self.get_slot(var, "accumulator")
        sums = tf.gather(slot, indices) + tf.reduce_mean(tf.square(grad), axis=-1)
        slot.scatter_update(tf.IndexedSlices(sums, indices))
        root = tf.sqrt(sums) + self.epsilon
        rate = self._hypers(var, apply_state)["lr_t"]
        change = rate * grad / root[:, tf.newaxis]
        return subtract(var, indices, change)

    def get_config(self):
        return super().get_config() | {
            "learning_rate": keras_privates.learning_rate_config(self),
            "initial_accumulator_value": self.initial_accumulator_value,
            "epsilon": self.epsilon,
        }
