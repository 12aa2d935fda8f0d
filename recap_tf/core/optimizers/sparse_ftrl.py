"""FTRL-proximal of single rows of tables, which drives weights to 0."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core import keras_privates
from recap_tf.core.checks import check_range
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.row_optimizer import RowOptimizer, WholeTableByRows

_on_tpu = tf.tpu.experimental.embedding


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class SparseFTRL(WholeTableByRows, keras.optimizers.legacy.Optimizer):
    """FTRL-proximal (McMahan et al. 2013, algorithm 1), with a^-power as rate.

        a' = a + g^2;  z += g - (a'^-power - a^-power) / lr * w;  a = a'
        w = -(z - sign(z) * l1) / (a^-power / lr + 2 * l2) where |z| > l1, else 0

    The first update of a row forgets most of its initial weights: z starts from 0.

    Args:
        learning_rate: a number or a schedule.
        learning_rate_power: at most 0; -0.5 is the paper's.
        initial_accumulator_value: what a starts from, at least 0.
        l1, l2: strengths of the penalties, at least 0.

    >>> import tensorflow as tf
    >>> from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
    >>> table = tf.Variable(tf.ones([4, 2]))
    >>> slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([3]))
    >>> _ = SparseFTRL(learning_rate=0.5).apply_gradients([(slices, table)])
    >>> [round(float(number), 3) for number in table[:, 0]]
    [1.0, 1.0, 1.0, 0.222]
    """

    _HAS_AGGREGATE_GRAD = True

    def __init__(
        self,
        learning_rate: float | Schedule = 0.01,
        learning_rate_power: float = -0.5,
        initial_accumulator_value: float = 0.1,
        l1: float = 0.0,
        l2: float = 0.0,
        name: str = "SparseFTRL",
    ):
        super().__init__(name)
        check_range("SparseFTRL.learning_rate_power", learning_rate_power, at_most=0)
        for setting, value in (
            ("initial_accumulator_value", initial_accumulator_value),
            ("l1", l1),
            ("l2", l2),
        ):
            check_range(f"SparseFTRL.{setting}", value, at_least=0)
        keras_privates.set_learning_rate(self, learning_rate)
        self.learning_rate_power = learning_rate_power
        self.initial_accumulator_value = initial_accumulator_value
        self.l1, self.l2 = l1, l2

    def slot_starts(self):
        return {"sums": 0.0}

    def tpu_slots(self):
        return {"sums": ["accumulators", "linears"]}

    def tpu_offsets(self):
        return {"accumulators": self.initial_accumulator_value}

    def as_tpu(self, learning_rate):
        return _on_tpu.FTRL(
            learning_rate,
            learning_rate_power=self.learning_rate_power,
            l1_regularization_strength=self.l1,
            l2_regularization_strength=self.l2,
            initial_accumulator_value=self.initial_accumulator_value,
        )

    def _create_slots(self, var_list):
        # Both sums of a row side by side, [a less what it starts from, z]; see
        # LazyAdam. TensorFlow's fused op waits for three rows one after the other.
        for var in var_list:
            rows, dim = var.shape
            self.add_slot(var, "sums", "zeros", shape=(rows, 2 * dim))

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        rate = self._hypers(var, apply_state)["lr_t"]
        slot = self.get_slot(var, "sums")
        squares, z = tf.split(tf.gather(slot, indices), 2, axis=1)
        added = squares + tf.square(grad)
        before, root = (
            tf.pow(self.initial_accumulator_value + a, -self.learning_rate_power)
            for a in (squares, added)
        )
        z += grad - (root - before) / rate * tf.gather(var, indices)
        slot.scatter_update(tf.IndexedSlices(tf.concat([added, z], axis=1), indices))
        # 0 where |z| is at most l1.
        beyond = z - tf.clip_by_value(z, -self.l1, self.l1)
        weights = -beyond / (root / rate + 2.0 * self.l2)
        return var.scatter_update(tf.IndexedSlices(weights, indices))

    def get_config(self):
        return super().get_config() | {
            "learning_rate": keras_privates.learning_rate_config(self),
            "learning_rate_power": self.learning_rate_power,
            "initial_accumulator_value": self.initial_accumulator_value,
            "l1": self.l1,
            "l2": self.l2,
        }
