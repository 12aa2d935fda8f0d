import math

import numpy as np
import pytest
import sklearn.metrics

from recap_tf.metrics.log_loss import LogLoss


def test_by_hand():
    loss = LogLoss()
    loss.update_state([1, 0], [0.5, 0.75], [3.0, 1.0])
    expected = (3 * math.log(2) + math.log(4)) / 4
    assert float(loss.result()) == pytest.approx(expected)


@pytest.mark.parametrize("from_logits", [False, True])
def test_agreement_with_sklearn(from_logits):
    rng = np.random.default_rng(6)
    logits = rng.normal(-3, 2, size=[100_000, 1]).round(2)
    scores = 1 / (1 + np.exp(-logits))
    labels = rng.uniform(size=scores.shape) < scores
    weights = rng.exponential(size=scores.shape)
    loss = LogLoss(tasks=1, from_logits=from_logits)
    loss.update_state(labels, logits if from_logits else scores, weights)
    expected = sklearn.metrics.log_loss(labels, scores, sample_weight=weights[:, 0])
    np.testing.assert_allclose(loss.result(), [expected], rtol=0, atol=1e-9)


def test_a_wrong_certainty_is_finite_and_set_by_epsilon():
    loss = LogLoss(epsilon=1e-3)
    loss.update_state([1, 0], [0.0, 1.0])
    assert float(loss.result()) == pytest.approx(-math.log(1e-3))


def test_a_logit_has_no_limit():
    loss = LogLoss(from_logits=True)
    loss.update_state([1], [-500.0])
    assert float(loss.result()) == pytest.approx(500)


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"epsilon must be in \(0, 0.5\). Received: 1"):
        LogLoss(epsilon=1)
