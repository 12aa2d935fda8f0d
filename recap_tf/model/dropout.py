"""Dropout whose random state is a weight, so that a resumed run draws what an
uninterrupted one would."""

import numpy as np
import tensorflow as tf
import tf_keras as keras

_APART = 1 << 32


@keras.saving.register_keras_serializable(package="recap_tf")
class Dropout(keras.layers.Layer):
    """In training, zeroes each input with probability `rate` and scales the others.

        output = inputs * keep / (1 - rate),  keep ~ Bernoulli(1 - rate)

    Keras's own layer keeps its random state out of checkpoints. Here it is a weight,
    [seed, calls so far]; replicas draw differently.

    Args:
        rate: share of zeroed inputs, in [0, 1).
    """

    def __init__(self, rate: float, **kwargs):
        super().__init__(**kwargs)
        if not 0.0 <= rate < 1.0:
            raise ValueError(f"Dropout.rate must be in [0, 1). Received: {rate}")
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
