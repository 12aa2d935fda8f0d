import itertools

import numpy as np
import pytest
import sklearn.metrics

from recap_tf.metrics.ranking import NDCG, HitRate, MeanReciprocalRank


def by_brute_force(kind, k, labels, scores):
    """Mean over all orders of the ties of one list."""
    values = []
    rows = range(len(labels))
    for order in itertools.permutations(rows):
        ordered = [scores[row] for row in order]
        if ordered != sorted(scores, reverse=True):
            continue
        ranked = np.array([labels[row] for row in order], float)
        places = np.arange(1, len(ranked) + 1)
        counts = places <= (k or len(ranked))
        if kind is NDCG:
            discount = counts / np.log2(1 + places)
            best = np.sort(ranked)[::-1] @ discount
            values.append(ranked @ discount / best)
        else:
            first = np.flatnonzero(ranked)[0]
            worth = 1 / places[first] if kind is MeanReciprocalRank else 1
            values.append(worth * counts[first])
    return np.mean(values)


@pytest.mark.parametrize("kind", [NDCG, MeanReciprocalRank, HitRate])
@pytest.mark.parametrize("k", [1, 2, 4, 10])
def test_ties_are_worth_what_is_expected_of_a_random_order(kind, k):
    rng = np.random.default_rng(k)
    metric = kind(k=k)
    expected = []
    for group in range(6):
        labels, scores = rng.integers(0, 2, 6), rng.integers(0, 3, 6)
        labels[rng.integers(6)] = 1
        metric.update_state(labels, scores, groups=np.full(6, group))
        expected.append(by_brute_force(kind, k, list(labels), list(scores)))
    assert float(metric.result()) == pytest.approx(np.mean(expected))


@pytest.mark.parametrize(
    "metric, expected",
    [
        (MeanReciprocalRank(), (1 / 2 + 1 / 3) / 2),
        (MeanReciprocalRank(k=2), (1 / 2 + 0) / 2),
        (HitRate(k=1), 0),
        (HitRate(k=2), 1 / 2),
        (HitRate(k=3), 1),
        (NDCG(k=2), (1 / np.log2(3) / (1 + 1 / np.log2(3)) + 0) / 2),
        (NDCG(k=None), ((1 / np.log2(3) + 1 / 2) / (1 + 1 / np.log2(3)) + 1 / 2) / 2),
    ],
    ids=["mrr", "mrr@2", "hit@1", "hit@2", "hit@3", "ndcg@2", "ndcg"],
)
def test_by_hand(metric, expected):
    # Request 5: places 2 and 3 of four. Request 6: place 3 of three. 7: no positive.
    metric.update_state(
        [0, 1, 1, 0, 0, 0, 1, 0],
        [0.9, 0.8, 0.7, 0.6, 0.9, 0.8, 0.7, 0.1],
        groups=[5, 5, 5, 5, 6, 6, 6, 7],
    )
    assert float(metric.result()) == pytest.approx(expected)
    assert float(metric.coverage()) == pytest.approx(7 / 8)


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
    kept = gains.any(axis=1)
    expected = sklearn.metrics.ndcg_score(gains[kept], scores[kept], k=k)
    np.testing.assert_allclose(ndcg.result(), expected, rtol=0, atol=1e-6)


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


def test_a_gain_below_zero_counts_as_zero():
    ndcg = NDCG()
    ndcg.update_state([-369.0, 1.0], [0.9, 0.1], groups=[1, 1])
    assert float(ndcg.result()) == pytest.approx(1 / np.log2(3))
    only_bad = NDCG()
    only_bad.update_state([-369.0, 0.0], [0.9, 0.1], groups=[1, 1])
    assert np.isnan(only_bad.result())


@pytest.mark.parametrize("kind", [NDCG, MeanReciprocalRank, HitRate])
def test_a_list_counts_with_the_mean_weight_of_its_examples(kind):
    metric, first, second = kind(k=1), kind(k=1), kind(k=1)
    labels, scores, groups = [1, 0, 0, 1], [0.9, 0.1, 0.9, 0.1], [1, 1, 2, 2]
    metric.update_state(labels, scores, [1.0, 3.0, 6.0, 6.0], groups=groups)
    first.update_state(labels[:2], scores[:2], groups=groups[:2])
    second.update_state(labels[2:], scores[2:], groups=groups[2:])
    expected = (2 * first.result() + 6 * second.result()) / 8
    assert float(metric.result()) == pytest.approx(float(expected))


def test_weight_zero_takes_an_example_out_of_its_list():
    rank = MeanReciprocalRank()
    rank.update_state([0, 1, 1], [0.9, 0.5, 0.1], [0.0, 1.0, 1.0], groups=[1, 1, 1])
    assert rank.result() == 1


@pytest.mark.parametrize("kind", [NDCG, MeanReciprocalRank, HitRate])
def test_mistakes_are_named(kind):
    with pytest.raises(
        ValueError, match=r"^k must be at least 1, or None. Received: 0$"
    ):
        kind(k=0)
