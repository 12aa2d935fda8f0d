import numpy as np
import pytest
import sklearn.metrics

from recap_tf.metrics.ndcg import NDCG


@pytest.mark.parametrize("k", [None, 3])
def test_ndcg_of_graded_gains_agrees_with_sklearn(k):
    rng = np.random.default_rng(6)
    lists, n = 500, 20
    gains = rng.choice([0, 0, 0.5, 13.5, 75], [lists, n])
    scores = rng.normal(size=[lists, n]).round(1)
    ndcg = NDCG(k=k)
    rows = rng.permutation(lists * n)
    groups = np.repeat(np.arange(lists), n)
    for part in np.split(rows, [10, 5000]):
        ndcg.update_state(
            gains.ravel()[part], scores.ravel()[part], groups=groups[part]
        )
    with_gain = gains.any(axis=1)
    expected = sklearn.metrics.ndcg_score(gains[with_gain], scores[with_gain], k=k)
    np.testing.assert_allclose(ndcg.result(), expected, rtol=0, atol=1e-6)


def test_a_gain_below_zero_counts_as_zero():
    ndcg = NDCG()
    ndcg.update_state([-369.0, 1.0], [0.9, 0.1], groups=[1, 1])
    assert float(ndcg.result()) == pytest.approx(1 / np.log2(3))
    only_bad = NDCG()
    only_bad.update_state([-369.0, 0.0], [0.9, 0.1], groups=[1, 1])
    assert np.isnan(only_bad.result())
