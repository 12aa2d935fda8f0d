"""Focal loss, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.losses.focal_loss import FocalLoss
from recap_tf.losses.multi_task_loss import MultiTaskLoss

TASKS = ["a", "b"]
LABELS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
LOGITS = np.array([[0.3, -1.2], [2.0, 0.7], [-0.4, 0.0]], np.float32)
WEIGHTS = np.array([[1, 2], [3, 0], [0.5, 1]], np.float32)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


def _of(pointwise, pos_weights=(1.0, 1.0)):
    return pointwise(TASKS, LABELS, LOGITS, tf.constant(pos_weights))


def _focal(labels, gamma, alpha=None):
    a, b = (1, 1) if alpha is None else (alpha, 1 - alpha)
    positives = a * labels * (1 - P) ** gamma * np.log(P)
    return -positives - b * (1 - labels) * P**gamma * np.log(1 - P)


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("alpha", [None, 0.25])
def test_focal_loss(gamma, alpha):
    loss = _of(FocalLoss(gamma=gamma, alpha=alpha))
    np.testing.assert_allclose(loss, _focal(LABELS, gamma, alpha), rtol=1e-5)


def test_focal_loss_of_the_paper_by_hand():
    # p = 0.9 for a positive: 0.25 * 0.1^2 * -ln 0.9.
    logit = tf.constant([[np.log(9.0)]], tf.float32)
    loss = FocalLoss(alpha=0.25)(["a"], tf.ones([1, 1]), logit, [1.0])
    np.testing.assert_allclose(loss, [[0.25 * 0.01 * -np.log(0.9)]], rtol=1e-5)


def test_focal_settings_per_task():
    loss = _of(
        FocalLoss(gamma={"b": 2.0}, alpha={"a": 0.3}, label_smoothing={"b": 1 / 2})
    )
    a = _focal(LABELS, 0.0, 0.3)[:, 0]
    b = _focal(LABELS * 0.5 + 0.25, 2.0)[:, 1]
    np.testing.assert_allclose(loss, np.stack([a, b], axis=1), rtol=1e-5)


def test_pos_weights_multiply_the_positive_part():
    both = _of(FocalLoss(gamma=2.0, label_smoothing=0.2), (3.0, 1.0))
    smoothed = LABELS * 0.8 + 0.1
    positive = -smoothed * (1 - P) ** 2 * np.log(P)
    expected = _focal(smoothed, 2.0) + positive * [2, 0]
    np.testing.assert_allclose(both, expected, rtol=1e-5)


def test_weights_and_pos_weights_meet_in_the_multi_task_loss():
    loss = MultiTaskLoss(pointwise=FocalLoss(gamma=2.0), pos_weights={"b": 3.0})
    _, task_losses = loss(TASKS, LABELS, LOGITS, WEIGHTS)
    each = _focal(LABELS, 2.0) * np.where(LABELS > 0, [1, 3], 1) * WEIGHTS
    np.testing.assert_allclose(task_losses, each.mean(axis=0), rtol=1e-5)


@pytest.mark.parametrize("gamma", [0.5, 2.0])
def test_extreme_logits_have_finite_gradients(gamma):
    logits = tf.constant([[-200.0], [200.0], [-200.0], [200.0]])
    labels = tf.constant([[0.0], [1.0], [1.0], [0.0]])
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss = FocalLoss(gamma=gamma)(["a"], labels, logits, [1.0])
    np.testing.assert_allclose(loss[:, 0], [0, 0, 200, 200])
    gradient = tape.gradient(loss, logits)
    np.testing.assert_allclose(gradient[:, 0], [0, 0, -1, 1], atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: FocalLoss(gamma=-1.0),
            "FocalLoss.gamma must be at least 0. Received: -1.0",
        ),
        (
            lambda: FocalLoss(alpha={"b": 1.0}),
            r"FocalLoss.alpha\['b'\] must be in \(0, 1\). Received: 1.0",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_setting_that_names_an_unknown_task():
    loss = MultiTaskLoss(pointwise=FocalLoss(gamma={"c": 1.0}))
    with pytest.raises(ValueError, match=r"FocalLoss.gamma names the task 'c', which"):
        loss.check_tasks(TASKS)
