"""Rounding to 16 bits at random: to a neighbour, and right on average."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.storage.stochastic_rounding import round_randomly

HALF = [tf.bfloat16, tf.float16]


@pytest.mark.parametrize("dtype", HALF)
def test_rounding_is_to_a_neighbour_and_right_on_average(dtype):
    values = tf.constant([1.0001, -3.14159, 1e-5, -2e-7, 0.0, 0.5, 60000.3])
    draws = tf.stack(
        [tf.cast(round_randomly(values, dtype, [7, i]), tf.float32) for i in range(900)]
    )
    # The unit of the last of 8 or 11 digits; float16 has no finer one than 6e-8.
    unit = np.maximum(np.abs(values), 1e-9) * 2.0 ** (
        -7 if dtype == tf.bfloat16 else -10
    )
    if dtype == tf.float16:
        unit = np.maximum(unit, 2.0**-24)
    assert (np.abs(draws - values) <= unit).all()
    assert (np.abs(np.mean(draws, axis=0) - values) <= 0.08 * unit).all()
    # What the type can hold stays.
    np.testing.assert_array_equal(draws[:, 4:6], np.tile([0.0, 0.5], (900, 1)))


def test_float16_stops_at_its_largest_number():
    # The next lower number is 65472: about half of the last ones are rounded up.
    values = tf.constant([1e9, -1e9, *[65488.0] * 20])
    rounded = round_randomly(values, tf.float16, [0, 0])
    np.testing.assert_array_equal(rounded[:2], [65504.0, -65504.0])
    assert set(rounded[2:].numpy()) == {65472.0, 65504.0}
