"""The pairwise loss, by hand and against all pairs listed one by one."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.losses.pairwise_loss import PairwiseLogistic
from recap_tf.losses.weighted_cross_entropy import CrossEntropy

TASKS = ["a", "b"]


def _loss(**settings) -> MultiTaskLoss:
    settings = {"pointwise": None} | settings
    return MultiTaskLoss(pairwise=PairwiseLogistic(group_feature="user"), **settings)


def _random(examples=24, groups=5):
    generator = np.random.default_rng(3)
    labels = generator.integers(0, 2, (examples, 2)).astype(np.float32)
    logits = generator.normal(size=(examples, 2)).astype(np.float32)
    weights = generator.uniform(0, 2, (examples, 2)).astype(np.float32)
    weights[::7] = 0
    users = generator.integers(0, groups, (examples, 1))
    return labels, logits, weights, users


def _listed(labels, logits, weights, users, task):
    """Sum of losses, sum of pair weights and number of pairs of a task."""
    y, x, w = labels[:, task], logits[:, task], weights[:, task]
    total = scale = count = 0
    for i, j in itertools.product(range(len(y)), repeat=2):
        if users[i] == users[j] and y[i] == 1 and y[j] == 0 and w[i] * w[j] > 0:
            total += w[i] * w[j] * np.log1p(np.exp(x[j] - x[i]))
            scale += w[i] * w[j]
            count += 1
    return total, scale, count


def test_by_hand():
    # User 7: one positive at 1, negatives at 0 and 3. User 8 has no positive.
    labels = np.array([[1], [0], [0], [0]], np.float32)
    logits = np.array([[1], [0], [3], [9]], np.float32)
    features = {"user": tf.constant([[7], [7], [7], [8]])}
    loss, _ = _loss()(["a"], labels, logits, features=features)
    expected = (np.log1p(np.exp(-1.0)) + np.log1p(np.exp(2.0))) / 2
    np.testing.assert_allclose(loss, expected, rtol=1e-6)


@pytest.mark.parametrize("task_reduction", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["integers", "strings"])
def test_all_pairs(task_reduction, kind):
    labels, logits, weights, users = _random()
    features = {"user": tf.constant(users)}
    if kind == "strings":
        features = {"user": tf.strings.as_string(features["user"])}
    loss = _loss(task_reduction=task_reduction)
    _, task_losses = loss(TASKS, labels, logits, weights, features)
    counts = loss.count_pairs(labels, weights, features)
    for task in range(2):
        total, scale, count = _listed(labels, logits, weights, users, task)
        expected = total / scale if task_reduction == "mean" else total
        np.testing.assert_allclose(task_losses[task], expected, rtol=1e-5)
        assert counts[task] == count > 0


def test_without_pairs_loss_and_gradient_are_0():
    labels, logits, weights, _ = _random()
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        # Every example is a group of its own.
        features = {"user": tf.range(24)[:, tf.newaxis]}
        loss, task_losses = _loss()(TASKS, labels, logits, weights, features)
    np.testing.assert_array_equal(task_losses, [0, 0])
    np.testing.assert_array_equal(tape.gradient(loss, logits), np.zeros((24, 2)))


def test_beside_cross_entropy_by_a_factor():
    labels, logits, weights, users = _random()
    features = {"user": tf.constant(users)}
    pairwise = PairwiseLogistic(group_feature="user", factor=0.25)
    mixed = MultiTaskLoss(pointwise=CrossEntropy(), pairwise=pairwise)
    _, both = mixed(TASKS, labels, logits, weights, features)
    _, points = MultiTaskLoss()(TASKS, labels, logits, weights)
    _, pairs = _loss()(TASKS, labels, logits, weights, features)
    np.testing.assert_allclose(both, points + 0.25 * pairs, rtol=1e-6)


def test_it_compiles_with_xla():
    labels, logits, weights, users = _random()
    features = {"user": tf.constant(users)}
    compiled = tf.function(_loss(), jit_compile=True)
    _, expected = _loss()(TASKS, labels, logits, weights, features)
    _, got = compiled(TASKS, labels, logits, weights, features)
    np.testing.assert_allclose(got, expected, rtol=1e-5)


@pytest.mark.parametrize(
    "specs, message",
    [
        (
            {"continuous": tf.TensorSpec([None, 3])},
            r"PairwiseLogistic.group_feature = 'user' is not among the features "
            r"\['continuous'\]. Records.extra_features reads more of them.",
        ),
        (
            {"user": tf.TensorSpec([None, 3], tf.int64)},
            "PairwiseLogistic.group_feature = 'user' must hold one integer or string "
            r"per example. Received: int64 of shape \(None, 3\)",
        ),
        (
            {"user": tf.TensorSpec([None, 1])},
            r"must hold one integer or string per example. Received: float32 of shape",
        ),
    ],
    ids=["missing", "several", "float"],
)
def test_a_group_feature_that_is_none(specs, message):
    with pytest.raises(ValueError, match=message):
        _loss().check_features(specs)


def test_bad_settings():
    with pytest.raises(ValueError, match=r"PairwiseLogistic.factor must be above 0"):
        PairwiseLogistic(group_feature="user", factor=0.0)
    with pytest.raises(ValueError, match=r"MultiTaskLoss needs pointwise, pairwise or"):
        MultiTaskLoss(pointwise=None)
