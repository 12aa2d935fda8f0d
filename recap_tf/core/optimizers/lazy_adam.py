"""Adam of single rows of tables: moments decay when a row is seen."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.optimizers.grouped import Adam
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.row_optimizer import (
    RowOptimizer,
    WholeTableByRows,
    subtract,
)

_on_tpu = tf.tpu.experimental.embedding


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class LazyAdam(WholeTableByRows, Adam):
    """Adam whose moments decay only when a row is seen.

        m = beta_1 * m + (1 - beta_1) * g;  v = beta_2 * v + (1 - beta_2) * g^2
        w -= lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    Keras's Adam decays the moments of every row in every update, which costs as much
    as the table is large. TPUs add epsilon before the bias correction.

    Args:
        learning_rate: a number or a schedule.
        beta_1, beta_2: decay of the first and second moment per update of a row.
        epsilon: added to the root of the corrected second moment.

    >>> import tensorflow as tf
    >>> from recap_tf.core.optimizers.lazy_adam import LazyAdam
    >>> table = tf.Variable(tf.ones([4, 2]))
    >>> slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([3]))
    >>> _ = LazyAdam(learning_rate=0.5).apply_gradients([(slices, table)])
    >>> [round(float(number), 3) for number in table[:, 0]]
    [1.0, 1.0, 1.0, 0.5]
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "LazyAdam",
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name)

    def slot_starts(self):
        return {"moments": 0.0}

    def tpu_slots(self):
        return {"moments": ["momenta", "velocities"]}

    def as_tpu(self, learning_rate):
        beta_1, beta_2 = self._exact_betas
        return _on_tpu.Adam(
            learning_rate,
            beta_1,
            beta_2,
            self.epsilon,
            lazy_adam=True,
            sum_inside_sqrt=False,
        )

    def _create_slots(self, var_list):
        # Both moments of a row side by side, [m, v]: fetching one longer row from
        # somewhere in a large table costs half of fetching two.
        for var in var_list:
            rows, dim = var.shape
            self.add_slot(var, "moments", "zeros", shape=(rows, 2 * dim))

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        state = self._hypers(var, apply_state)
        slot = self.get_slot(var, "moments")
        decay = tf.repeat(
            tf.stack([state["beta_1_t"], state["beta_2_t"]]), grad.shape[1]
        )
        towards = tf.concat([grad, tf.square(grad)], axis=1)
        moments = decay * tf.gather(slot, indices) + (1.0 - decay) * towards
        slot.scatter_update(tf.IndexedSlices(moments, indices))
        m, v = tf.split(moments, 2, axis=1)
        change = state["lr"] * m / (tf.sqrt(v) + state["epsilon"])
        return subtract(var, indices, change)
