import numpy as np
import tensorflow as tf

from recap_tf.losses.gradient_clipping import clip_by_global_norm


def test_clipping_scales_all_gradients_by_one_factor():
    # Norms 5 and 12: together 13.
    rows = tf.IndexedSlices(tf.constant([[6.0, 0.0], [6.0, 0.0]]), [2, 2], [5, 2])
    pair = [tf.constant([3.0, 4.0]), None, rows]
    first, none, second = clip_by_global_norm(pair, 6.5)
    assert none is None
    np.testing.assert_allclose(first, [1.5, 2.0], rtol=1e-6)
    np.testing.assert_allclose(second.values, [[3.0, 0.0], [3.0, 0.0]], rtol=1e-6)
    first, _, second = clip_by_global_norm(pair, 13.5)
    np.testing.assert_array_equal(first, [3.0, 4.0])
    np.testing.assert_array_equal(second.values, pair[2].values)
