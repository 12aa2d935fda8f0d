"""The multi-task loss, by hand and against the reference."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.losses.multi_task_loss import MultiTaskLoss

REDUCTIONS = ("mean", "sum", "min", "max", "median")


def _loss(settings, labels, logits, weights=None):
    tasks = [f"task_{i}" for i in range(logits.shape[1])]
    logits = tf.constant(logits)
    with tf.GradientTape() as tape:
        tape.watch(logits)
        loss, task_losses = MultiTaskLoss(**settings)(tasks, labels, logits, weights)
    return loss, task_losses, tape.gradient(loss, logits)


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_golden_multi_task_loss(golden, reduction):
    arrays = golden("multi_task_loss")
    pos_weights = {f"task_{i}": float(w) for i, w in enumerate(arrays["pos_weights"])}
    data = arrays["labels"], arrays["logits"], arrays["weights"]
    for task_reduction, with_pos_weights in itertools.product(
        ("mean", "sum"), (True, False)
    ):
        settings = {
            "reduction": reduction,
            "task_reduction": task_reduction,
            "pos_weights": pos_weights if with_pos_weights else {},
        }
        kind = "with" if with_pos_weights else "no"
        prefix = f"global_{reduction}/task_{task_reduction}/{kind}_pos_weights/"
        loss, task_losses, gradient = _loss(settings, *data)
        np.testing.assert_allclose(loss, arrays[f"{prefix}loss"], rtol=2e-6)
        np.testing.assert_allclose(
            task_losses, arrays[f"{prefix}task_losses"], rtol=2e-6
        )
        np.testing.assert_allclose(
            gradient, arrays[f"{prefix}grad_logits"], atol=1e-6, rtol=2e-6
        )


@pytest.mark.parametrize("reduction", ["min", "max", "median"])
def test_golden_multi_task_loss_shares_the_gradient_of_ties(golden, reduction):
    arrays = golden("multi_task_loss")
    data = arrays["ties/labels"], arrays["ties/logits"], arrays["ties/weights"]
    loss, _, gradient = _loss({"reduction": reduction}, *data)
    np.testing.assert_allclose(loss, arrays[f"ties/{reduction}/loss"], rtol=2e-6)
    np.testing.assert_allclose(
        gradient, arrays[f"ties/{reduction}/grad_logits"], atol=1e-6
    )


def test_golden_multi_task_loss_without_weights(golden):
    arrays = golden("multi_task_loss")
    loss, _, gradient = _loss({}, arrays["labels"], arrays["logits"])
    np.testing.assert_allclose(loss, arrays["build_loss/loss"], rtol=2e-6)
    np.testing.assert_allclose(gradient, arrays["build_loss/grad_logits"], atol=1e-6)


def test_by_hand():
    # Logit 0 costs ln 2 either way; the positive of weight 3 counts 2 * 3 times.
    labels = np.array([[1.0], [0.0]], np.float32)
    weights = np.array([[3.0], [1.0]], np.float32)
    loss, task_losses, _ = _loss(
        {"pos_weights": {"task_0": 2.0}}, labels, np.zeros((2, 1), np.float32), weights
    )
    np.testing.assert_allclose(loss, 7 * np.log(2) / 2, rtol=1e-6)
    np.testing.assert_allclose(task_losses, [loss])


@pytest.mark.parametrize("setting", ["reduction", "task_reduction"])
def test_an_unknown_reduction(setting):
    with pytest.raises(ValueError, match=f"MultiTaskLoss.{setting} must be one of"):
        MultiTaskLoss(**{setting: "mode"})
