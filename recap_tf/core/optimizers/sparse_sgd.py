"""Plain gradient descent of single rows of tables."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.core.optimizers.row_optimizer import WIDE, RowOptimizer, subtract

_on_tpu = tf.tpu.experimental.embedding


@gin.register(denylist=list(RowOptimizer.set_elsewhere))
@keras.saving.register_keras_serializable(package="recap_tf")
class SparseSGD(RowOptimizer, keras.optimizers.legacy.SGD):
    """Gradient descent of the rows of a batch: w -= lr * g.

    Args:
        learning_rate: a number or a schedule.

    >>> import tensorflow as tf
    >>> from recap_tf.core.optimizers.sparse_sgd import SparseSGD
    >>> table = tf.Variable(tf.ones([4, 2]))
    >>> slices = tf.IndexedSlices(tf.ones([1, 2]), tf.constant([3]))
    >>> _ = SparseSGD(learning_rate=0.5).apply_gradients([(slices, table)])
    >>> [round(float(number), 3) for number in table[:, 0]]
    [1.0, 1.0, 1.0, 0.5]
    """

    def __init__(self, learning_rate: float | Schedule = 0.01, name: str = "SparseSGD"):
        super().__init__(learning_rate, name=name)

    def slot_starts(self):
        return {}

    def _resource_apply_sparse_duplicate_indices(self, grad, handle, indices, **kwargs):
        apply = super()._resource_apply_sparse_duplicate_indices
        if handle.shape[-1] < WIDE and handle.dtype == tf.float32:
            # Keras's subtracts row after row, one that comes twice, twice.
            apply = super(RowOptimizer, self)._resource_apply_sparse_duplicate_indices
        return apply(grad, handle, indices, **kwargs)

    def _resource_apply_sparse(self, grad, var, indices, apply_state=None):
        rate = self._hypers(var, apply_state)["lr_t"]
        return subtract(var, indices, rate * grad)

    def as_tpu(self, learning_rate):
        return _on_tpu.SGD(learning_rate)

    def get_config(self):
        config = super().get_config()
        return {name: config[name] for name in ("learning_rate", "name")}
