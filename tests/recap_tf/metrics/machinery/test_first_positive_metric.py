import numpy as np
import pytest

from recap_tf.metrics.hit_rate import HitRate
from recap_tf.metrics.mrr import MeanReciprocalRank


def test_mrr_and_hits_agree_with_numpy_on_many_lists():
    rng = np.random.default_rng(7)
    lists, n = 5000, 20
    labels = rng.uniform(size=[lists, n]) < 0.1
    scores = rng.normal(size=[lists, n])
    groups = np.repeat(rng.permutation(lists), n)
    ranked = np.take_along_axis(labels, np.argsort(-scores, axis=1), axis=1)
    first = ranked[ranked.any(axis=1)].argmax(axis=1) + 1
    for metric, expected in (
        (MeanReciprocalRank(), np.mean(1 / first)),
        (HitRate(k=3), np.mean(first <= 3)),
    ):
        metric.update_state(labels.ravel(), scores.ravel(), groups=groups)
        np.testing.assert_allclose(metric.result(), expected, rtol=0, atol=1e-9)


def test_long_lists_of_ties():
    # One positive among 2000 equal scores is anywhere: hit@500 is a quarter.
    hits = HitRate(k=500)
    hits.update_state(np.eye(2000)[77], np.zeros(2000), groups=np.zeros(2000, np.int64))
    assert float(hits.result()) == pytest.approx(1 / 4)


def test_weight_zero_takes_an_example_out_of_its_list():
    rank = MeanReciprocalRank()
    rank.update_state([0, 1, 1], [0.9, 0.5, 0.1], [0.0, 1.0, 1.0], groups=[1, 1, 1])
    assert rank.result() == 1
