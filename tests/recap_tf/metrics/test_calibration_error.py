import numpy as np
import pytest
import tensorflow as tf

from recap_tf.metrics.calibration_error import CalibrationError


def one(labels, predictions, weights=None, **settings):
    metric = CalibrationError(**settings)
    metric.update_state(labels, predictions, weights)
    return metric


@pytest.mark.parametrize(
    "labels, predictions, bins, expected",
    [
        ([0, 1], [0.2, 0.6], 2, (0.2 + 0.4) / 2),
        ([0, 1], [0.2, 0.6], 1, 0.1),
        ([0, 0, 1, 1], [0.0, 0.0, 1.0, 1.0], 10, 0),
        ([1, 0, 0, 0], [0.5] * 4, 10, 0.25),
        ([0, 0, 1], [0.1, 0.4, 0.4], 2, (0.05 + 0.15) / 3),
    ],
    ids=["two bins", "one bin", "perfect", "a constant", "a cut through ties"],
)
def test_by_hand(labels, predictions, bins, expected):
    # The cut through ties: the first bin holds the 0.1 and half of a tied example,
    # of label 1/2: |0.1 + 0.2 - 0.25| = 0.05; the second 1.5 of them, |0.6 - 0.75|.
    value = float(one(labels, predictions, bins=bins).result())
    assert value == pytest.approx(expected, abs=1e-7)


def by_numpy(labels, predictions, weights, bins):
    """Every example cut into the shares that it has in each bin; ties are merged."""
    values = np.unique(predictions)
    mass = np.array([weights[predictions == v].sum() for v in values])
    hits = np.array([(weights * labels)[predictions == v].sum() for v in values])
    ends = np.cumsum(mass)
    edges = np.linspace(0, ends[-1], bins + 1)
    low = np.maximum(edges[:-1, np.newaxis], ends - mass)
    high = np.minimum(edges[1:, np.newaxis], ends)
    share = np.maximum(high - low, 0) / mass
    prediction, label = share @ (mass * values), share @ hits
    return np.abs(prediction - label).sum() / ends[-1]


@pytest.mark.parametrize("digits", [1, 2, 3])
def test_agreement_with_numpy_on_weights_and_ties(digits):
    rng = np.random.default_rng(digits)
    n = 100_000
    predictions = rng.beta(1, 5, size=n).round(digits)
    labels = rng.uniform(size=n) < predictions**1.2
    weights = rng.exponential(size=n)
    metric = one(labels, predictions, weights)
    expected = by_numpy(labels, predictions, weights, 10)
    # The weights are kept in float32.
    np.testing.assert_allclose(metric.result(), expected, rtol=0, atol=1e-6)


def test_error_where_the_true_differences_are_0_is_that_of_a_bootstrap():
    rng = np.random.default_rng(31)
    n, replicates = 2000, 400
    predictions = rng.beta(2, 5, size=[n, 1])
    labels = rng.uniform(size=[n, 1]) < predictions
    counts = rng.multinomial(n, np.full(n, 1 / n), replicates).T
    resamples = CalibrationError(tasks=replicates)
    columns = [np.tile(a, [1, replicates]) for a in (labels, predictions)]
    resamples.update_state(*columns, counts)
    found = np.std(tf.function(resamples.result)())
    claimed = float(one(labels, predictions).standard_error())
    assert claimed == pytest.approx(found, rel=0.15)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"^bins must be at least 1. Received: 0$"):
        CalibrationError(bins=0)
