"""Label smoothing, by hand."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.losses.focal_loss import FocalLoss
from recap_tf.losses.weighted_cross_entropy import CrossEntropy

TASKS = ["a", "b"]
LABELS = np.array([[1, 0], [0, 1], [1, 1]], np.float32)
LOGITS = np.array([[0.3, -1.2], [2.0, 0.7], [-0.4, 0.0]], np.float32)
P = 1 / (1 + np.exp(-LOGITS.astype(np.float64)))


def _of(pointwise, pos_weights=(1.0, 1.0)):
    return pointwise(TASKS, LABELS, LOGITS, tf.constant(pos_weights))


def _cross_entropy(labels):
    return -labels * np.log(P) - (1 - labels) * np.log(1 - P)


def test_label_smoothing_moves_labels_towards_one_half():
    smoothed = LABELS * 0.8 + 0.1
    loss = _of(CrossEntropy(label_smoothing=0.2))
    np.testing.assert_allclose(loss, _cross_entropy(smoothed), rtol=1e-5)


def test_label_smoothing_of_one_task():
    loss = _of(CrossEntropy(label_smoothing={"b": 0.2}))
    smoothed = LABELS * [1, 0.8] + [0, 0.1]
    np.testing.assert_allclose(loss, _cross_entropy(smoothed), rtol=1e-5)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: CrossEntropy(label_smoothing=1.0),
            r"CrossEntropy.label_smoothing must be in \[0, 1\). Received: 1.0",
        ),
        (
            lambda: FocalLoss(label_smoothing={"a": -0.1}),
            r"FocalLoss.label_smoothing\['a'\] must be in \[0, 1\). Received: -0.1",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()
