"""Stochastic rounding: float32 -> 16 bits, up or down at random, right on average.

Added to a 16-bit number, most updates of training are less than half of its last digit
and would be lost. Rounded up or down at random, with the nearer of the two the more
likely, they arrive on average (Gupta et al. 2015, arXiv:1502.02551, section 3; Zhang et
al. 2018, "Training with Low-precision Embedding Tables").
"""

import tensorflow as tf

_LEAST_NORMAL_HALF = 2.0**-14
_HALF_STEP = 2.0**-24
_LARGEST_HALF = 65504.0


def round_randomly(values: tf.Tensor, dtype: tf.DType, seed: tf.Tensor) -> tf.Tensor:
    """Rounds float32 to `dtype`, up or down with a mean that is the value itself.

    Args:
        values: finite.
        dtype: tf.bfloat16 or tf.float16; what the latter cannot hold becomes its
            largest number.
        seed: (2,) integers.

    >>> import tensorflow as tf
    >>> from recap_tf.core.storage.stochastic_rounding import round_randomly
    >>> halfway = tf.fill([10_000], 1.0 + 2.0**-8)  # bfloat16 has 1 and 1 + 2^-7.
    >>> rounded = tf.cast(round_randomly(halfway, tf.bfloat16, [1, 2]), tf.float32)
    >>> sorted(set(rounded.numpy().tolist())), round(float(tf.reduce_mean(rounded)), 3)
    ([1.0, 1.0078125], 1.004)
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
