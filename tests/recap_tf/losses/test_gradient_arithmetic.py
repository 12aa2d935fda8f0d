"""Arithmetic on dense gradients and on gradients of a few rows."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.losses import gradient_arithmetic


def _rows(indices, values, rows=5):
    values = tf.constant(values, tf.float32)
    shape = tf.constant([rows, values.shape[1]])
    return tf.IndexedSlices(values, tf.constant(indices), shape)


FIRST = _rows([1, 3, 1], [[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])
SECOND = _rows([3, 0], [[1.0, 1.0], [2.0, 2.0]])


def _dense(gradient):
    table = np.zeros((5, 2), np.float32)
    np.add.at(table, gradient.indices.numpy(), gradient.values.numpy())
    return table


def test_rows_are_added_as_rows():
    total = gradient_arithmetic.add(FIRST, SECOND)
    assert isinstance(total, tf.IndexedSlices)
    assert total.values.shape == (5, 2)
    np.testing.assert_array_equal(_dense(total), _dense(FIRST) + _dense(SECOND))


def test_adding_what_is_missing_or_dense():
    assert gradient_arithmetic.add(None, None) is None
    assert gradient_arithmetic.add(FIRST, None) is FIRST
    assert gradient_arithmetic.add(None, FIRST) is FIRST
    total = gradient_arithmetic.add(tf.ones([5, 2]), FIRST)
    np.testing.assert_array_equal(total, 1.0 + _dense(FIRST))


def test_scaled_rows_stay_rows():
    scaled = gradient_arithmetic.scale(FIRST, tf.constant(2.0))
    assert isinstance(scaled, tf.IndexedSlices)
    np.testing.assert_array_equal(_dense(scaled), 2 * _dense(FIRST))
    assert gradient_arithmetic.scale(None, tf.constant(2.0)) is None


@pytest.mark.parametrize("compiled", [False, True])
def test_products_add_up_repeated_rows_first(compiled):
    products = tf.function(gradient_arithmetic.products, jit_compile=compiled)
    flat = np.stack([_dense(FIRST), np.zeros((5, 2)), _dense(SECOND)]).reshape(3, 10)
    np.testing.assert_allclose(products([FIRST, None, SECOND]), flat @ flat.T)
    # [6, 8] . [6, 8] + [3, 4] . [3, 4], not the sum over single rows.
    assert products([FIRST])[0, 0] == 125


def test_products_of_dense_and_of_mixed_gradients():
    dense = tf.reshape(tf.range(10.0), [5, 2])
    both = gradient_arithmetic.products([dense, None, FIRST])
    flat = np.stack([dense, np.zeros((5, 2)), _dense(FIRST)]).reshape(3, 10)
    np.testing.assert_allclose(both, flat @ flat.T)
