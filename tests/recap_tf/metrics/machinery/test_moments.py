import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.moments import WeightedMoments, ratio_error


def test_covariance_of_two_means_by_hand():
    # Means 2 and 20; differences -1, 1 and -10, 10 with weights 1 and 1; n / (n - 1)
    # = 2, the square of the weight sum 4.
    moments = WeightedMoments(tasks=1, values=2)
    moments.update_state([[[1.0], [3.0]], [[10.0], [30.0]]])
    np.testing.assert_allclose(moments.result()[:, 0], [2, 20])
    expected = np.array([[1, 10], [10, 100]]) * 2 * 2 / 4
    np.testing.assert_allclose(moments.covariance()[..., 0], expected)
    np.testing.assert_allclose(moments.standard_error()[:, 0], [1, 10])


def test_error_of_an_unweighted_mean_is_the_textbook_one():
    values = np.random.default_rng(1).normal(3, 2, size=500)
    moments = WeightedMoments()
    for batch in np.split(values, [7, 300]):
        moments.update_state([batch])
    expected = values.std(ddof=1) / np.sqrt(500)
    assert float(moments.standard_error()[0]) == pytest.approx(expected)


def test_weights_are_no_repetitions():
    # All weights the same: as if they were 1, however large.
    values = np.arange(10.0)
    once, heavy = WeightedMoments(), WeightedMoments()
    once.update_state([values])
    heavy.update_state([values], 50.0)
    np.testing.assert_allclose(heavy.standard_error(), once.standard_error())


def test_weighted_covariance_over_batches_agrees_with_numpy():
    rng = np.random.default_rng(2)
    values = rng.normal(size=[3, 400, 2]) * [1, 5] + [0, 1e3]
    weights = rng.exponential(size=[400, 2]) * (rng.uniform(size=[400, 2]) < 0.8)
    moments = WeightedMoments(tasks=2, values=3)
    for rows in np.split(np.arange(400), [1, 2, 90]):
        moments.update_state(list(values[:, rows]), weights[rows])
    for task in range(2):
        w, y = weights[:, task], values[:, :, task]
        mean = (y * w).sum(axis=1) / w.sum()
        off = (y - mean[:, np.newaxis]) * w / w.sum()
        n = (w > 0).sum()
        np.testing.assert_allclose(moments.means[:, task], mean, rtol=1e-12)
        np.testing.assert_allclose(
            moments.covariance()[..., task], off @ off.T * n / (n - 1), rtol=1e-9
        )


def test_error_of_a_function_of_the_means():
    # The difference of two values that move together does not vary.
    moments = WeightedMoments(values=2)
    moments.update_state([[1.0, 2.0, 5.0], [11.0, 12.0, 15.0]])
    gradient = tf.constant([1.0, -1.0])
    assert float(moments.standard_error(gradient)) == pytest.approx(0, abs=1e-9)
    assert float(moments.standard_error(-gradient * [1, 0])) == pytest.approx(
        float(moments.standard_error()[0])
    )


def test_a_large_constant_has_no_error():
    moments = WeightedMoments()
    for _ in range(10):
        moments.update_state([np.full(10, 1e8 + 0.1)], np.full(10, 0.3))
    assert float(moments.standard_error()[0]) < 1e-6


def test_float32_values_whose_squares_overflow_float32():
    moments = WeightedMoments(dtype="float32")
    moments.update_state([np.array([1e30, 3e30], np.float32)])
    assert float(moments.standard_error()[0]) == pytest.approx(1e30, rel=1e-6)


def test_ratio_error_is_that_of_the_moments():
    rng = np.random.default_rng(3)
    values, weights = rng.normal(size=50), rng.uniform(size=50)
    weights[:5] = 0
    moments = WeightedMoments()
    moments.update_state([values], weights)
    error = ratio_error(tf.constant(values), tf.constant(weights))
    np.testing.assert_allclose(error, moments.standard_error()[0])
    assert np.isnan(ratio_error(tf.constant([1.0], tf.float64), weights[5:6]))


def test_moments_survive_a_config_round_trip_by_their_class():
    moments = WeightedMoments(tasks=2, values=3)
    copy = WeightedMoments.from_config(moments.get_config())
    assert copy.get_config() == moments.get_config()
    assert isinstance(copy, keras.metrics.Metric) and copy.means.shape == (3, 2)


def test_no_values_are_refused():
    with pytest.raises(ValueError, match=r"^values must be at least 1. Received: 0$"):
        WeightedMoments(values=0)
