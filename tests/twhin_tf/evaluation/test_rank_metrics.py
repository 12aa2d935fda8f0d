"""Metrics of ranks are those computed by hand."""

import numpy as np
import pytest

from twhin_tf.evaluation.rank_metrics import rank_metrics


def test_metrics_are_those_by_hand():
    metrics = rank_metrics(np.array([1, 2, 4, 20.0]))
    assert metrics["mrr"] == pytest.approx((1 + 0.5 + 0.25 + 0.05) / 4)
    assert metrics["mean_rank"] == 6.75
    assert [metrics[f"hits@{k}"] for k in (1, 3, 10, 50)] == [0.25, 0.5, 0.75, 1.0]
    error = np.std([1, 0.5, 0.25, 0.05], ddof=1) / 2
    assert metrics["mrr_error"] == pytest.approx(error)
    assert rank_metrics(np.array([2.0]))["mrr_error"] is None
