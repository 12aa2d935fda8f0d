"""Tables of 16-bit numbers: gradients, updates."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from recap_tf.core.optimizers.sparse_sgd import SparseSGD
from recap_tf.core.storage.half_precision import AsFloat32, read_rows

HALF = [tf.bfloat16, tf.float16]


@pytest.mark.parametrize("dtype", HALF)
def test_gradients_are_float32(dtype):
    table = tf.Variable(tf.ones([4, 2], dtype))

    @tf.function
    def gradient():
        with tf.GradientTape() as tape:
            rows = read_rows(table, tf.constant([[1], [3]]))
            loss = 1e-9 * tf.reduce_sum(rows)
        return tape.gradient(loss, table)

    found = gradient()
    assert found.values.dtype == tf.float32
    np.testing.assert_allclose(found.values, np.full((2, 2), 1e-9))
    np.testing.assert_array_equal(found.indices, [1, 3])


@pytest.mark.parametrize("dtype", HALF)
def test_small_updates_arrive_that_plain_rounding_loses(dtype):
    # 400 times 1e-4 of 1: less than half of the last digit every time.
    plain, table = tf.constant(1.0, dtype), tf.Variable(tf.ones([2, 64], dtype))
    optimizer = SparseSGD(learning_rate=1e-4)
    grad = tf.IndexedSlices(tf.ones([1, 64]), [1], [2, 64])

    @tf.function
    def update():
        optimizer.apply_gradients([(grad, table)])

    for _ in range(400):
        plain = tf.cast(tf.cast(plain, tf.float32) - 1e-4, dtype)
        update()
    assert float(plain) == 1.0
    found = tf.cast(table, tf.float32).numpy()
    assert found[1].mean() == pytest.approx(0.96, abs=0.005)
    np.testing.assert_array_equal(found[0], np.ones(64))


@pytest.mark.parametrize("dim", [2, 64])
@pytest.mark.parametrize(
    "optimizer", [SparseSGD, SparseAdagrad, RowWiseAdagrad, LazyAdam]
)
def test_an_update_is_that_of_float32_but_for_rounding(optimizer, dim):
    start = np.linspace(0.5, 1.0, 3 * dim, dtype=np.float32).reshape(3, dim)
    tables = [tf.Variable(start), tf.Variable(tf.cast(start, tf.float16))]
    # Row 2 comes twice.
    grad = tf.IndexedSlices(tf.fill([3, dim], 0.3), [2, 0, 2], [3, dim])
    for table in tables:
        made = optimizer(learning_rate=0.1)
        made.apply_gradients([(grad, table)])
        for name in made.slot_starts():
            assert made.get_slot(table, name).dtype == tf.float32
    full, half = (tf.cast(table, tf.float32).numpy() for table in tables)
    np.testing.assert_allclose(half, full, atol=2e-3)
    assert np.abs(full - start)[[0, 2]].min() > 5e-3


def test_the_view_is_read_and_written_as_float32():
    table = tf.Variable(tf.cast([[1.0], [2.0]], tf.bfloat16))
    view = AsFloat32(table, [1, 2])
    assert tf.gather(view, [1]).dtype == tf.float32
    view.scatter_sub(tf.IndexedSlices(tf.constant([[0.5]]), [1]))
    np.testing.assert_array_equal(tf.cast(table, tf.float32), [[1.0], [1.5]])
    assert view.shape == table.shape
