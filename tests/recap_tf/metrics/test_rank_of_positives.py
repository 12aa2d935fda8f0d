import re

import numpy as np
import pytest

from recap_tf.metrics.rank_of_positives import (
    HitRateOfPositives,
    PositionOfPositives,
    ReciprocalRankOfPositives,
)


@pytest.mark.parametrize(
    "metric, expected",
    [
        (PositionOfPositives(), (1 + 3 + 2) / 3),
        (ReciprocalRankOfPositives(), (1 + 1 / 3 + 1 / 2) / 3),
        (HitRateOfPositives(k=2), 2 / 3),
    ],
    ids=["position", "reciprocal rank", "hits"],
)
def test_by_hand(metric, expected):
    metric.update_state([0, 1, 1], [0.5, 0.9, 0.1])
    metric.update_state([0, 0], [0.5, 0.9])  # no positive: changes nothing
    metric.update_state([1, 0], [0.5, 0.9])
    assert float(metric.result()) == pytest.approx(expected)


@pytest.mark.parametrize(
    "metric, expected",
    [
        (PositionOfPositives(), 2),
        (ReciprocalRankOfPositives(), (1 + 1 / 2 + 1 / 3) / 3),
        (HitRateOfPositives(k=2), 2 / 3),
    ],
    ids=["position", "reciprocal rank", "hits"],
)
def test_a_positive_is_anywhere_among_its_ties(metric, expected):
    metric.update_state([0, 1, 0, 0], [0.5, 0.5, 0.5, 0.1])
    assert float(metric.result()) == pytest.approx(expected)


def test_weights_of_positives_and_lists_of_tasks():
    position = PositionOfPositives(tasks=2)
    position.update_state(
        [[1, 0], [0, 1], [1, 0]],
        [[0.9, 0.2], [0.5, 0.1], [0.1, 0.3]],
        [[3.0, 1.0], [0.0, 1.0], [1.0, 0.0]],
    )
    # Task 0: places 1 (weight 3) and 2, the middle one being out. Task 1: 2 of two.
    np.testing.assert_allclose(position.result(), [(3 * 1 + 2) / 4, 2])


def test_label_threshold():
    position = PositionOfPositives(label_threshold=2.0)
    position.update_state([2, 3], [0.9, 0.1])
    assert position.result() == 2


def test_mistakes_are_named():
    with pytest.raises(
        ValueError, match=r"^k must be at least 1, or None for all places. Received: 0$"
    ):
        HitRateOfPositives(k=0)


def test_golden_ranking_after_each_batch(golden):
    arrays = golden("metrics_ranking")
    kinds = {
        "pos_ranks": PositionOfPositives,
        "reciprocal_rank": ReciprocalRankOfPositives,
    }
    checked = 0
    for key in arrays.keys() - {"logits", "labels"}:
        name, after = key.split("/")
        assert after == "after_each_batch", key
        hits = re.fullmatch(r"hit_at_(\d+)", name)
        metric = HitRateOfPositives(k=int(hits[1])) if hits else kinds[name]()
        for batch, expected in enumerate(arrays[key]):
            metric.update_state(arrays["labels"][batch], arrays["logits"][batch])
            # Relative, for the positions: the golden ones are float32.
            np.testing.assert_allclose(
                metric.result(), expected, rtol=1e-6, atol=1e-6, err_msg=key
            )
            checked += 1
    assert checked > 0
