import numpy as np
import pytest
import sklearn.metrics

from recap_tf.metrics.sampled_auroc import SampledAUROC


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([0.1, 0.9], 1),
        ([0.9, 0.1], 0),
        ([0.5, 0.5], 1 / 2),
        ([np.inf, np.inf], 1 / 2),
        ([-np.inf, np.inf], 1),
    ],
    ids=["right", "wrong", "tie", "infinite tie", "infinite"],
)
def test_one_pair(scores, expected):
    area = SampledAUROC(pairs=3)
    area.update_state([0, 1], scores)
    assert float(area.result()) == expected


def test_it_is_near_the_exact_area_with_weights_and_ties():
    rng = np.random.default_rng(11)
    scores = rng.normal(size=2000).round(1)
    labels = rng.uniform(size=2000) < 1 / (1 + np.exp(2 - scores))
    weights = rng.exponential(size=2000)
    area = SampledAUROC(pairs=100_000)
    area.update_state(labels, scores, weights)
    exact = sklearn.metrics.roc_auc_score(labels, scores, sample_weight=weights)
    # At most 1/2 / sqrt(pairs), one sigma.
    assert float(area.result()) == pytest.approx(exact, abs=4 * 0.5 / np.sqrt(1e5))


def test_batches_count_by_the_weight_of_their_pairs():
    area = SampledAUROC()
    area.update_state([0, 1], [0.1, 0.9], [2.0, 3.0])
    area.update_state([0, 1], [0.9, 0.1], [1.0, 4.0])
    area.update_state([1, 1], [0.9, 0.1])  # one class: changes nothing
    assert float(area.result()) == pytest.approx(6 / (6 + 4))


def test_each_batch_draws_anew_and_a_seed_repeats():
    rng = np.random.default_rng(12)
    batch = rng.integers(0, 2, 50), rng.normal(size=50)

    def values(seed):
        area, found = SampledAUROC(pairs=10, seed=seed), []
        for _ in range(3):
            area.update_state(*batch)
            found.append(float(area.result()))
        return found

    assert values(1) == values(1) != values(2)
    assert len(set(values(1))) > 1


def test_mistakes_are_named():
    with pytest.raises(ValueError, match=r"^pairs must be at least 1. Received: 0$"):
        SampledAUROC(pairs=0)
