"""The points of the report's curves, on numbers small enough to check by hand."""

import numpy as np
import pytest

from recap_tf.report.curves import (
    TaskScores,
    histogram,
    precision_recall,
    reliability,
    roc,
)


def _scored(labels, predictions, weights=None) -> TaskScores:
    weights = np.ones(len(labels)) if weights is None else np.array(weights)
    return TaskScores(np.array(labels), weights, np.array(predictions))


def test_roc_steps_up_for_a_positive_and_right_for_a_negative():
    curve = roc(_scored([1, 0, 1, 0], [0.9, 0.8, 0.7, 0.1]))
    np.testing.assert_allclose(curve.x, [0, 0, 0.5, 0.5, 1])
    np.testing.assert_allclose(curve.y, [0, 0.5, 0.5, 1, 1])


def test_equal_scores_are_one_step_and_weights_count():
    scored = _scored([1, 0, 0], [0.5, 0.5, 0.2], [2.0, 1.0, 3.0])
    curve = roc(scored)
    np.testing.assert_allclose(curve.x, [0, 0.25, 1])
    np.testing.assert_allclose(curve.y, [0, 1, 1])
    found = precision_recall(scored)
    np.testing.assert_allclose(found.x, [1, 1])
    np.testing.assert_allclose(found.y, [2 / 3, 2 / 6])
    assert scored.rate == pytest.approx(2 / 6)


def test_precision_starts_at_the_first_positive():
    curve = precision_recall(_scored([0, 1, 1, 0], [0.9, 0.8, 0.7, 0.1]))
    np.testing.assert_allclose(curve.x, [0.5, 1, 1])
    np.testing.assert_allclose(curve.y, [1 / 2, 2 / 3, 2 / 4])


def test_a_long_curve_is_thinned_but_keeps_its_area():
    rng = np.random.default_rng(0)
    labels = rng.random(50_000) < 0.1
    predictions = 1 / (1 + np.exp(-rng.normal(size=50_000) - labels))
    curve = roc(_scored(labels, predictions))
    assert len(curve.x) <= 300
    order = np.argsort(predictions)
    ranks = np.empty(50_000)
    ranks[order] = np.arange(1, 50_001)
    p = labels.sum()
    area = (ranks[labels].sum() - p * (p + 1) / 2) / (p * (50_000 - p))
    under = np.sum(np.diff(curve.x) * (curve.y[1:] + curve.y[:-1]) / 2)
    assert under == pytest.approx(area, abs=1e-3)


@pytest.mark.parametrize("labels", [[0, 0], [1, 1], []])
def test_no_curve_without_both_classes(labels):
    scored = _scored(labels, [0.5, 0.4][: len(labels)])
    assert roc(scored) is None
    assert precision_recall(scored) is None


def test_examples_without_weight_or_prediction_are_not_there():
    scored = _scored([1, 1, 0, 1], [0.5, np.nan, 0.2, 0.3], [1.0, 1.0, 1.0, 0.0])
    assert scored.labels.tolist() == [True, False]


def test_reliability_compares_means_within_bins_of_equal_weight():
    bins = reliability(
        _scored([0, 1, 1, 1], [0.1, 0.3, 0.6, 0.8], [1.0, 3.0, 2.0, 2.0]), bins=2
    )
    np.testing.assert_allclose(bins.predicted, [(0.1 + 0.9) / 4, (1.2 + 1.6) / 4])
    np.testing.assert_allclose(bins.observed, [0.75, 1.0])
    # Weights 1 and 3, labels 0 and 1: sqrt(1 * .75^2 + 9 * .25^2) / 4.
    error = np.sqrt(0.75**2 + 9 * 0.25**2) / 4
    np.testing.assert_allclose(bins.low[0], max(0.75 - 1.96 * error, 0))
    assert bins.examples.tolist() == [2, 2]


def test_a_bin_without_positives_has_an_interval_all_the_same():
    labels = [0] * 10 + [1] * 10
    bins = reliability(_scored(labels, np.linspace(0.1, 0.9, 20)), bins=2)
    assert bins.observed.tolist() == [0, 1]
    np.testing.assert_allclose([bins.low[0], bins.high[0]], [0, 0.3])
    np.testing.assert_allclose([bins.low[1], bins.high[1]], [0.7, 1])


def test_equal_predictions_share_a_bin():
    bins = reliability(_scored([0, 1] * 50, [0.5] * 100))
    assert bins.examples.tolist() == [100]
    np.testing.assert_allclose(bins.observed, [0.5])


def test_the_interval_holds_the_truth_as_often_as_it_says():
    rng = np.random.default_rng(1)
    held, bins = 0, 0
    for _ in range(200):
        rates = rng.uniform(0.02, 0.5, 2000)
        labels = rng.random(2000) < rates
        # Positives stand for 2, negatives for 10 of the original traffic.
        kept = rng.random(2000) < np.where(labels, 0.5, 0.1)
        found = reliability(
            _scored(labels[kept], rates[kept], np.where(labels, 2.0, 10.0)[kept])
        )
        held += np.sum((found.low <= found.predicted) & (found.predicted <= found.high))
        bins += len(found.predicted)
    assert 0.85 < held / bins < 0.98


def test_histograms_are_shares_of_their_class_on_log_odds():
    found = histogram(_scored([1, 0, 0, 0], [0.5, 0.5, 0.5, 0.1], [1, 1, 1, 2]), bins=2)
    np.testing.assert_allclose(found.edges[[0, 2]], [np.log(1 / 9), 0], atol=1e-12)
    np.testing.assert_allclose(found.positives, [0, 1])
    np.testing.assert_allclose(found.negatives, [0.5, 0.5])


def test_a_histogram_of_equal_or_extreme_scores_is_drawn():
    assert histogram(_scored([1, 0], [0.3, 0.3])).positives.sum() == 1
    assert histogram(_scored([1, 0], [0.0, 1.0])).negatives.sum() == 1
    assert histogram(_scored([], [])) is None
