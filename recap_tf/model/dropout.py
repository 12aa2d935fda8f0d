"""Dropout whose random state is a weight.

A resumed run draws what an uninterrupted one would have drawn.
"""

import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range

_APART = 1 << 32


@keras.saving.register_keras_serializable(package="recap_tf")
class Dropout(keras.layers.Layer):
    """Zeroes inputs at random in training, and scales the others.

        output = inputs * keep / (1 - rate),  keep ~ Bernoulli(1 - rate)

    Keras's own layer keeps its random state out of checkpoints. Here it is a weight,
    [seed, calls so far]; replicas draw differently.

    Args:
        rate: share of zeroed inputs, in [0, 1).

    >>> import tensorflow as tf
    >>> from recap_tf.model.dropout import Dropout
    >>> dropped = Dropout(0.5)(tf.ones([100, 100]), training=True)
    >>> sorted(set(dropped.numpy().ravel().tolist()))
    [0.0, 2.0]
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        check_range("Dropout.rate", rate, at_least=0, below=1)
        self.rate = rate

    def build(self, shape):
        # numpy's generator, because `keras.utils.set_random_seed` seeds it.
        seed = np.random.randint(2**31)
        self.state = self.add_weight(
            "state",
            (2,),
            tf.int64,
            keras.initializers.Constant([seed, 0]),
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_WRITE,
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        super().build(shape)

    def call(self, inputs, training=None):
        if not training or not self.rate:
            return inputs
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        seed, calls = tf.unstack(self.state)
        draw = tf.random.stateless_uniform(
            tf.shape(inputs), seed=[seed + _APART * tf.cast(replica, tf.int64), calls]
        )
        self.state.assign_add(tf.constant([0, 1], tf.int64))
        keep = tf.cast(draw >= self.rate, inputs.dtype)
        return inputs * keep / (1.0 - self.rate)

    def get_config(self):
        return super().get_config() | {"rate": self.rate}
