"""Several batches make one update."""

import types

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.training.gradient_accumulation import accumulate, check_accumulation


def test_gradients_are_added_and_reports_averaged():
    def of_batch(number):
        dense = tf.constant([number, 1.0])
        rows = tf.IndexedSlices(tf.constant([[number]]), tf.constant([int(number)]))
        return {"dense": dense, "rows": rows, "none": None}, tf.constant([2 * number])

    total, report = accumulate([1.0, 2.0, 4.0], of_batch)
    np.testing.assert_array_equal(total["dense"], [7, 3])
    # Rows stay rows.
    np.testing.assert_array_equal(total["rows"].indices, [1, 2, 4])
    np.testing.assert_array_equal(total["rows"].values, [[1], [2], [4]])
    assert total["none"] is None
    np.testing.assert_allclose(report, [14 / 3], rtol=1e-6)


def test_one_batch_is_itself():
    gradient = tf.constant([1.0])
    total, report = accumulate([gradient], lambda batch: ([batch], batch))
    assert total[0] is gradient
    np.testing.assert_array_equal(report, [1])


def table(name, open_vocabulary=None):
    return types.SimpleNamespace(name=name, open_vocabulary=open_vocabulary)


def model(*tables):
    large = types.SimpleNamespace(tables={each.name: each for each in tables})
    return types.SimpleNamespace(large_embeddings=large if tables else None)


def test_rows_that_change_hands_bear_no_accumulation():
    message = r"gradient_accumulation must be 1 with TableSpec.open_vocabulary, .*'ids'"
    with pytest.raises(ValueError, match=message + r".* Received: 2"):
        check_accumulation(model(table("words"), table("ids", object())), 2)
    check_accumulation(model(table("words"), table("ids", object())), 1)
    check_accumulation(model(table("words")), 2)
    check_accumulation(model(), 2)
