"""RCE, and what holds for it, NRCE and the normalized entropy alike."""

import itertools
import math
import re

import numpy as np
import pytest
import sklearn.metrics
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.normalized_entropy import NormalizedEntropy
from recap_tf.metrics.nrce import NRCE
from recap_tf.metrics.rce import RCE

KINDS = {"rce": RCE, "nrce": NRCE, "ne": NormalizedEntropy}


def entropy(rate):
    return -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)


@pytest.mark.parametrize(
    "labels, predictions, expected",
    [
        ([1, 0], [0.5, 0.5], 0),
        ([1, 0, 0, 0], [0.25] * 4, 0),
        ([1, 0], [1.0, 0.0], 100),
        ([1, 0], [0.9, 0.1], 100 * (1 - math.log(0.9) / math.log(0.5))),
        ([1, 0], [0.1, 0.9], 100 * (1 - math.log(0.1) / math.log(0.5))),
    ],
    ids=["coin", "constant at the rate", "perfect", "good", "worse than a constant"],
)
def test_rce_by_hand(labels, predictions, expected):
    rce = RCE()
    rce.update_state(labels, predictions)
    assert float(rce.result()) == pytest.approx(expected, abs=1e-4)


def test_agreement_with_sklearn_on_weights_and_ties():
    rng = np.random.default_rng(25)
    n = 100_000
    predictions = rng.beta(1, 20, size=[n, 1]).round(3).clip(1e-3)
    labels = rng.uniform(size=[n, 1]) < predictions * 0.8
    weights = rng.exponential(size=[n, 1])
    rce, entropy_ratio = RCE(tasks=1), NormalizedEntropy(tasks=1)
    for rows in np.split(np.arange(n), [10, 70_000]):
        for metric in (rce, entropy_ratio):
            metric.update_state(labels[rows], predictions[rows], weights[rows])
    rate = np.full(n, np.average(labels, weights=weights))
    losses = [
        sklearn.metrics.log_loss(labels, p, sample_weight=weights[:, 0])
        for p in (predictions[:, 0], rate)
    ]
    expected = losses[0] / losses[1]
    np.testing.assert_allclose(entropy_ratio.result(), [expected], rtol=0, atol=1e-6)
    # The field's RCE adds an epsilon inside the logarithms: another formula.
    q = predictions[:, 0]
    y, w, e = labels[:, 0], weights[:, 0], 1e-7
    losses = [
        -np.average(np.where(y, np.log(p + e), np.log(1 - p + e)), weights=w)
        for p in (q, rate)
    ]
    expected = 100 * (1 - losses[0] / losses[1])
    np.testing.assert_allclose(rce.result(), [expected], rtol=0, atol=1e-6)


def test_rce_counts_a_weight_as_repetition():
    weighted, repeated = RCE(), RCE()
    weighted.update_state([1, 0, 0], [0.7, 0.2, 0.4], [1.0, 3.0, 2.0])
    repeated.update_state([1, 0, 0, 0, 0, 0], [0.7, 0.2, 0.2, 0.2, 0.4, 0.4])
    assert float(weighted.result()) == pytest.approx(float(repeated.result()))


def test_rce_smooths_the_labels_of_model_and_constant():
    # Labels 1, 0, 0, 0 become 0.9, 0.1, 0.1, 0.1 with the mean 0.3.
    rce = RCE(label_smoothing=0.2)
    rce.update_state([1, 0, 0, 0], [0.5] * 4)
    expected = 100 * (1 - math.log(2) / entropy(0.3))
    assert float(rce.result()) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_logits_and_probabilities_agree(kind):
    logits = np.array([-2.0, 0.5, 3.0, -0.1])
    labels = [0, 1, 1, 0]
    by_logit, by_probability = kind(from_logits=True), kind()
    by_logit.update_state(labels, logits)
    by_probability.update_state(labels, 1 / (1 + np.exp(-logits)))
    assert float(by_logit.result()) == pytest.approx(
        float(by_probability.result()), abs=1e-3
    )


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_without_a_class_there_is_no_value_until_it_comes(kind, smoothing):
    metric = kind(tasks=3, label_smoothing=smoothing)
    assert np.isnan(metric.result()).all()
    metric.update_state([[0, 1, 0]] * 3, [[0.1, 0.2, 0.3]] * 3, [[0.3, 0.6, 0.7]] * 3)
    np.testing.assert_array_equal(np.isnan(metric.result()), [True, True, True])
    metric.update_state([[1, 0, 1]], [[0.3, 0.1, 0.2]], [[1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(np.isnan(metric.result()), [False, False, True])
    assert np.isfinite(metric.result()[:2]).all()


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_an_example_without_weight_changes_nothing_even_with_nan(kind):
    metric = kind()
    metric.update_state([1, 0], [0.7, 0.4])
    before = float(metric.result())
    metric.update_state([1, 0], [np.nan, 0.9], [0.0, 0.0])
    assert float(metric.result()) == before


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_zero_predictions_give_a_finite_value(kind):
    metric = kind()
    metric.update_state([1, 0, 0], [0.0, 0.0, 0.0])
    assert np.isfinite(metric.result())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_tasks_at_once_equal_tasks_alone_in_graph_mode(kind):
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, [3, 40, 2])
    predictions = rng.uniform(size=[3, 40, 2]).astype(np.float32)
    weights = rng.uniform(size=[3, 40, 2])
    together = kind(tasks=2)

    @tf.function
    def step(*batch):
        together.update_state(*batch)
        return together.result()

    alone = [kind(), kind()]
    for batch in zip(labels, predictions, weights, strict=True):
        value = step(*map(tf.constant, batch))
        for task, metric in enumerate(alone):
            metric.update_state(*(array[:, task] for array in batch))
    # Not closer: 1 - p + epsilon magnifies the last digit of a p near 1.
    np.testing.assert_allclose(value, [m.result() for m in alone], rtol=1e-8)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_merging_in_any_order(kind):
    rng = np.random.default_rng(11)
    shards = [kind(tasks=2) for _ in range(3)]
    whole = RCE(tasks=2)
    for shard in shards:
        batch = rng.integers(0, 2, [30, 2]), rng.uniform(size=[30, 2])
        shard.update_state(*batch)
        whole.update_state(*batch)
    values = []
    for order in itertools.permutations(shards):
        merged = kind(tasks=2)
        merged.merge_state(order)
        values.append(merged.result())
    np.testing.assert_allclose(values, np.tile(values[0], [6, 1]), rtol=1e-10)
    if kind is RCE:
        np.testing.assert_allclose(values[0], whole.result(), rtol=1e-10)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_the_error_is_the_derivative_by_the_weights(kind, smoothing):
    # d value / d w by differences; predictions far from calibrated even when scaled.
    rng = np.random.default_rng(26)
    n, step = 30, 1e-3
    labels, weights = rng.integers(0, 2, n), rng.uniform(1, 2, n)
    predictions = rng.uniform(0.02, 0.4, n) ** 2
    columns = [np.tile(a[:, np.newaxis], [1, 2 * n]) for a in (labels, predictions)]
    moved = np.concatenate([np.eye(n), -np.eye(n)], axis=1) * step
    metric = kind(tasks=2 * n, label_smoothing=smoothing)
    metric.update_state(*columns, weights[:, np.newaxis] + moved)
    values = metric.result().numpy()
    slopes = (values[:n] - values[n:]) / (2 * step)
    expected = np.sqrt(np.sum((weights * slopes) ** 2) * n / (n - 1))
    metric = kind(label_smoothing=smoothing)
    metric.update_state(labels, predictions, weights)
    assert float(metric.standard_error()) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_reset_starts_anew(kind):
    metric, fresh = kind(tasks=1), kind(tasks=1)
    metric.update_state([[1], [0]], [[0.9], [0.8]])
    metric.reset_state()
    for one in (metric, fresh):
        one.update_state([[1], [0]], [[0.6], [0.3]])
    np.testing.assert_array_equal(metric.result(), fresh.result())


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_config_round_trip(kind):
    metric = kind(4, label_smoothing=0.2, from_logits=True, epsilon=1e-6, name="mine")
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(copy) is kind
    assert copy.get_config() == metric.get_config()
    assert (copy.tasks, copy.label_smoothing, copy.from_logits) == (4, 0.2, True)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: RCE(label_smoothing=1.0),
            r"label_smoothing must be in \[0, 1\). Received: 1.0",
        ),
        (
            lambda: NRCE(label_smoothing=-0.1),
            r"label_smoothing must be in \[0, 1\).*: -0.1",
        ),
        (lambda: RCE(epsilon=0), r"epsilon must be in \(0, 0.5\). Received: 0"),
        (
            lambda: RCE().update_state([1], [0.5, 0.2]),
            r"^The inputs of rce must have the same shape. "
            r"Received: labels \(1,\), predictions \(2,\)$",
        ),
    ],
    ids=["all smooth", "negative", "epsilon", "lengths"],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def check(value, expected, labels, key):
    """`value` after `labels` is the golden `expected`, or NaN if they lack a class."""
    if len(np.unique(labels)) < 2:
        assert np.isnan(value), key
        return
    # What the golden numbers' README allows: their float32 cannot hold 1 - p + epsilon
    # where p is near 1, which is what the set `ties` is about.
    tolerance = 5e-3 if key.startswith("ties/") else 1e-3
    error = abs(float(value) - expected) / max(1, abs(expected))
    assert error <= tolerance, f"{key}: {float(value)}, golden {expected}"


def test_golden_rce_and_nrce_after_each_batch(golden):
    arrays = golden("metrics_rce_auroc")
    pattern = re.compile(
        r"(\w+)/(n?rce)(_from_logits)?/(weighted|unweighted)"
        r"/label_smoothing_([\d.]+)/after_each_batch"
    )
    matches = [match for match in map(pattern.fullmatch, arrays) if match]
    assert matches
    for match in matches:
        case, kind, from_logits, weighting, smoothing = match.groups()
        metric = KINDS[kind](
            label_smoothing=float(smoothing), from_logits=bool(from_logits)
        )
        inputs = arrays[f"{case}/{'logits' if from_logits else 'predictions'}"]
        for batch, expected in enumerate(arrays[match[0]]):
            weight = arrays[f"{case}/weights"][batch]
            metric.update_state(
                arrays[f"{case}/labels"][batch],
                inputs[batch],
                weight if weighting == "weighted" else None,
            )
            seen = arrays[f"{case}/labels"][: batch + 1]
            check(metric.result(), expected, seen, f"{match[0]} batch {batch}")


def test_golden_rce_and_nrce_of_single_batches(golden):
    arrays = golden("metrics_rce_auroc")
    pattern = re.compile(r"(\w+)/(n?rce)_forward_batch_values")
    matches = [match for match in map(pattern.fullmatch, arrays) if match]
    assert matches
    for match in matches:
        case, kind = match.groups()
        metric = KINDS[kind]()
        for batch, expected in enumerate(arrays[match[0]]):
            metric.reset_state()
            labels = arrays[f"{case}/labels"][batch]
            value = metric(labels, arrays[f"{case}/predictions"][batch])
            check(value, expected, labels, f"{match[0]} batch {batch}")


def test_golden_rce_of_probabilities_0_and_1(golden):
    arrays = golden("metrics_rce_auroc")
    pattern = re.compile(r"(\w+)/rce")
    matches = [match for match in map(pattern.fullmatch, arrays) if match]
    assert matches
    for match in matches:
        metric = RCE()
        labels = arrays[f"{match[1]}/labels"]
        metric.update_state(labels, arrays[f"{match[1]}/predictions"])
        check(metric.result(), arrays[match[0]], labels, match[0])
