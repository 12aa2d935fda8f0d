"""What holds for the metrics of lists: NDCG, MRR and hit rate."""

import itertools

import numpy as np
import pytest

from recap_tf.metrics.hit_rate import HitRate
from recap_tf.metrics.mrr import MeanReciprocalRank
from recap_tf.metrics.ndcg import NDCG


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


@pytest.mark.parametrize("kind", [NDCG, MeanReciprocalRank, HitRate])
def test_a_list_counts_with_the_mean_weight_of_its_examples(kind):
    metric, first, second = kind(k=1), kind(k=1), kind(k=1)
    labels, scores, groups = [1, 0, 0, 1], [0.9, 0.1, 0.9, 0.1], [1, 1, 2, 2]
    metric.update_state(labels, scores, [1.0, 3.0, 6.0, 6.0], groups=groups)
    first.update_state(labels[:2], scores[:2], groups=groups[:2])
    second.update_state(labels[2:], scores[2:], groups=groups[2:])
    expected = (2 * first.result() + 6 * second.result()) / 8
    assert float(metric.result()) == pytest.approx(float(expected))


@pytest.mark.parametrize("kind", [NDCG, MeanReciprocalRank, HitRate])
def test_mistakes_are_named(kind):
    with pytest.raises(
        ValueError, match=r"^k must be at least 1, or None for all places. Received: 0$"
    ):
        kind(k=0)
