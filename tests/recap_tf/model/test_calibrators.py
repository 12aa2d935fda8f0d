"""Post-hoc calibrators: the maps, and how they are fitted."""

import json

import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from recap_tf.evaluation.calibration_report import measure
from recap_tf.model.calibration_fits import FITS, fit_isotonic, fit_platt
from recap_tf.model.calibrators import Calibrators, IsotonicMap, PlattMap

METHODS = sorted(FITS)


def _planted(seed, examples=40000):
    """Scores that are twice the true log odds plus 1, labels, weights of 1."""
    random = np.random.default_rng(seed)
    log_odds = random.normal(-1.0, 1.5, examples)
    labels = random.random(examples) < 1 / (1 + np.exp(-log_odds))
    scores = (2 * log_odds + 1).astype(np.float32)
    return scores, labels.astype(np.float64), np.ones(examples)


def _apply(one, scores) -> np.ndarray:
    return one(tf.constant(scores, tf.float32)).numpy()


@pytest.mark.parametrize("method", METHODS)
def test_a_planted_miscalibration_is_repaired_on_fresh_data(method):
    one = FITS[method](*_planted(seed=1))
    scores, labels, weights = _planted(seed=2)
    before = measure(labels, tf.sigmoid(scores).numpy(), weights)
    after = measure(labels, _apply(one, scores), weights)
    assert before["calibration"] > 1.1 and before["calibration_error"] > 0.07
    assert after["calibration"] == pytest.approx(1.0, abs=0.03)
    assert after["calibration_error"] < 0.012
    assert after["log_loss"] < before["log_loss"] - 0.05
    assert after["auroc"] == pytest.approx(before["auroc"], abs=1e-3)


def test_platt_recovers_slope_and_offset():
    one = fit_platt(*_planted(seed=3, examples=200000))
    assert one.slope == pytest.approx(0.5, abs=0.01)
    assert one.offset == pytest.approx(-0.5, abs=0.02)


def test_platt_without_smoothing_is_the_maximum_of_the_likelihood():
    scores, labels, _ = _planted(seed=4, examples=2000)
    weights = np.random.default_rng(4).uniform(0.1, 50.0, 2000)
    one = fit_platt(scores, labels, weights, smooth_targets=False)
    error = weights * (1 / (1 + np.exp(-one.slope * scores - one.offset)) - labels)
    assert error.sum() / weights.sum() == pytest.approx(0.0, abs=1e-7)
    assert error @ scores / weights.sum() == pytest.approx(0.0, abs=1e-7)


def test_platts_smoothed_targets_are_his():
    # One score: the fit is the mean target. 3 positives: 4/5 each; 2 negatives: 1/4.
    one = fit_platt(np.zeros(5), np.array([1, 1, 1, 0, 0]), np.ones(5))
    assert _apply(one, [0.0]) == pytest.approx([(3 * 4 / 5 + 2 * 1 / 4) / 5])
    plain = fit_platt(np.zeros(5), np.array([1, 1, 1, 0, 0]), np.ones(5), False)
    assert _apply(plain, [0.0]) == pytest.approx([3 / 5])


def test_isotonic_by_hand():
    one = fit_isotonic(np.arange(4.0), np.array([0, 1, 0, 1]), np.ones(4))
    # Pooled: 0, 1/2, 1/2, 1. The ends: 1 / (1 + 2) is past half way to the next block.
    assert one.scores == (0, 1, 2, 3)
    assert one.probabilities == pytest.approx([0.25, 0.5, 0.5, 0.75])
    found = _apply(one, [-9, 0, 0.5, 1, 1.7, 2.5, 3, 9, -np.inf, np.inf])
    expected = [0.25, 0.25, 0.375, 0.5, 0.5, 0.625, 0.75, 0.75, 0.25, 0.75]
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_the_ends_of_isotonic_follow_the_rule_of_succession():
    scores = np.concatenate([np.arange(98.0), [200, 201], 300 + np.arange(8.0)])
    labels = np.concatenate([np.zeros(98), [1, 0], np.ones(8)])
    one = fit_isotonic(scores, labels, np.ones(108))
    # 1 / (98 + 2) below; 1 - 1 / (8 + 2) above.
    np.testing.assert_allclose(_apply(one, [5, 200.5, 305]), [0.01, 0.5, 0.9], 1e-6)


def test_equal_scores_are_one_point():
    scores, labels = np.array([0, 0, 0, 1, 1]), np.array([0, 1, 0, 1, 0])
    for order in ([0, 1, 2, 3, 4], [4, 1, 0, 3, 2]):
        one = fit_isotonic(scores[order], labels[order], np.ones(5))
        np.testing.assert_allclose(_apply(one, [0, 1]), [1 / 3, 1 / 2], rtol=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_a_weight_counts_as_so_many_examples(method):
    scores, labels, _ = _planted(seed=5, examples=3000)
    times = np.where(labels > 0, 1, np.random.default_rng(5).integers(0, 4, 3000))
    scores_of_none = np.where(times > 0, scores, np.nan)
    weighted = FITS[method](scores_of_none, labels, times.astype(np.float64))
    repeated = FITS[method](
        *(np.repeat(a, times) for a in (scores, labels)), np.ones(times.sum())
    )
    plain = FITS[method](scores, labels, np.ones(3000))
    grid = np.linspace(-9, 9, 50)
    np.testing.assert_allclose(_apply(weighted, grid), _apply(repeated, grid), 1e-4)
    assert np.abs(_apply(weighted, grid) - _apply(plain, grid)).max() > 0.02


@pytest.mark.parametrize("method", METHODS)
def test_the_scale_of_the_weights_does_not_matter(method):
    scores, labels, weights = _planted(seed=6, examples=500)
    one, other = (FITS[method](scores, labels, weights * w) for w in (1.0, 1e-6))
    grid = np.linspace(-9, 9, 50)
    np.testing.assert_allclose(_apply(one, grid), _apply(other, grid), rtol=1e-4)


def test_isotonic_keeps_the_order_to_the_last_bit():
    one = fit_isotonic(*_planted(seed=7, examples=5000))
    # Every knot with its neighbours in float32, where rounding would show.
    knots = np.float32(one.scores)
    above, below = (np.nextafter(knots, np.float32(far)) for far in (99, -99))
    between = np.linspace(-20, 20, 5000, dtype=np.float32)
    grid = np.sort(np.concatenate([below, knots, above, between]))
    assert (np.diff(_apply(one, grid)) >= 0).all()


def test_rounding_does_not_pass_a_knot():
    low, high = np.float32(0.001883477), np.float32(0.62590677)
    assert low + (high - low) > high
    one = IsotonicMap([0.0, 1.0], [float(low), float(high)])
    assert _apply(one, [1.0]) == high


@pytest.mark.parametrize("method", METHODS)
def test_auroc_changes_by_ties_alone(method):
    one = FITS[method](*_planted(seed=7, examples=5000))
    scores, labels, _ = _planted(seed=8, examples=5000)
    # With the scores to break its ties, the order is that of the scores.
    order = np.lexsort([scores, _apply(one, scores)])
    ranks = np.empty(len(scores))
    ranks[order] = np.arange(len(scores))
    expected = roc_auc_score(labels, scores)
    assert roc_auc_score(labels, ranks) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_fitting_twice_gives_the_same_bits(method):
    data = _planted(seed=9, examples=3000)
    assert FITS[method](*data) == FITS[method](*data)


@pytest.mark.parametrize("method", METHODS)
def test_order_worse_than_chance_is_flattened_not_reversed(method):
    labels = np.array([1, 1, 0, 1, 0, 0])
    one = FITS[method](np.arange(6.0), labels, np.ones(6))
    np.testing.assert_allclose(_apply(one, [-5, 0, 9]), [0.5] * 3, rtol=1e-6)


@pytest.mark.parametrize("smooth", [True, False])
def test_platt_of_separated_classes_is_finite(smooth):
    one = fit_platt(np.arange(20.0), np.arange(20) >= 10, np.ones(20), smooth)
    low, high = _apply(one, [9, 10])
    assert 0 < low < 0.45 and 0.55 < high <= 1


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("label", [0, 1])
def test_one_class_alone_is_refused(method, label):
    with pytest.raises(ValueError, match="needs positives and negatives of"):
        FITS[method](np.arange(4.0), np.array([label] * 4), np.ones(4))
    with pytest.raises(ValueError, match=f"Received: {2 * label} positives of 2 ex"):
        weights = np.array([1, 1, 0, 0])
        FITS[method](np.arange(4.0), np.array([label, label, 0, 1]), weights)


@pytest.mark.parametrize(
    "one",
    [
        PlattMap(1.5, -0.2),
        IsotonicMap([-3.0, -1.0, 4.0], [0.1, 0.1, 0.7]),
        IsotonicMap([0.5], [0.3]),
    ],
    ids=str,
)
def test_a_map_compiles_and_hands_on_what_is_not_a_number(one):
    scores = tf.constant([-9.0, -1.0, 0.0, 3.0, 9.0, float("nan")])
    plain = one(scores).numpy()
    assert np.isnan(plain[-1]) and np.isfinite(plain[:-1]).all()
    compiled = tf.function(one, jit_compile=True)(scores).numpy()
    np.testing.assert_allclose(compiled, plain, rtol=1e-6)


@pytest.mark.parametrize(
    "make",
    [
        lambda: PlattMap(-1.0, 0.0),
        lambda: PlattMap(1.0, float("nan")),
        lambda: IsotonicMap([0.0, 0.0], [0.1, 0.2]),
        lambda: IsotonicMap([0.0, 1e-50], [0.1, 0.2]),  # Equal in float32.
        lambda: IsotonicMap([0.0, 1.0], [0.2, 0.1]),
        lambda: IsotonicMap([0.0, 1.0], [0.2, 1.1]),
        lambda: IsotonicMap([0.0, 1.0], [0.2]),
        lambda: IsotonicMap([], []),
    ],
)
def test_impossible_maps_are_refused(make):
    with pytest.raises(ValueError, match=r"map needs .* Received: "):
        make()


def test_calibrators_pair_tasks_by_name_and_survive_json():
    calibrators = Calibrators(
        {"reply": PlattMap(0.5, 1.0), "like": IsotonicMap([0.0, 1.0], [0.2, 0.6])},
        {"reply": "rare", "like": "validation"},
    )
    stored = json.loads(json.dumps(calibrators.as_json()))
    again = Calibrators.from_json(stored)
    assert again == calibrators
    assert str(again) == "platt fitted on rare, isotonic fitted on validation"
    scores = tf.constant([[0.5, 0.0, 2.0]])
    found = again(["like", "plain", "reply"], scores, tf.fill([1, 3], 0.25)).numpy()
    np.testing.assert_allclose(found, [[0.4, 0.25, 1 / (1 + np.exp(-2.0))]], rtol=1e-6)
