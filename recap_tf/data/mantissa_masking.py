"""Masking of the low bits of floats, to try out a lower precision."""

from collections.abc import Mapping

import tensorflow as tf

from recap_tf.data.preprocess_steps import Features, check_features


def mask_features(features: Features, bits: Mapping[str, int]) -> Features:
    """`features`, those in `bits` with as many low bits of each value set to 0.

    Raises:
        ValueError: one of them is not there, or not float32.
    """
    check_features("Records.masked_mantissa_bits", bits, features)
    for name in bits:
        if features[name].dtype != tf.float32:
            raise ValueError(
                f"Records.masked_mantissa_bits[{name!r}] must be a feature of floats. "
                f"Received: {features[name].dtype.name}"
            )
    masked = {name: mask_mantissa(features[name], n) for name, n in bits.items()}
    return features | masked


def mask_mantissa(
    x: tf.Tensor | tf.SparseTensor, bits: int
) -> tf.Tensor | tf.SparseTensor:
    """float32 `x` with the lowest `bits` bits of every pattern set to 0.

    x & (2^32 - 2^bits): tries out a lower precision without changing the type.

    >>> mask_mantissa(tf.constant([1.2345678]), bits=16).numpy()
    array([1.234375], dtype=float32)
    """
    if isinstance(x, tf.SparseTensor):
        return x.with_values(mask_mantissa(x.values, bits))
    pattern = tf.bitcast(x, tf.int32)
    return tf.bitcast(tf.bitwise.bitwise_and(pattern, -(1 << bits)), tf.float32)
