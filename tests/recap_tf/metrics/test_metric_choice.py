"""Metrics by name, as configs choose them."""

import numpy as np
import pytest

from recap_tf.metrics import metric_choice

PLAIN = [name for name in metric_choice.names() if "@" not in name]


@pytest.mark.parametrize(
    "name", [*PLAIN, "precision@0.5", "recall@0.2", "hit@2", "ndcg@2"]
)
def test_every_metric_measures_a_perfect_model(name):
    choice = metric_choice.find(name, "setting")
    metric = choice.make(2)
    labels = np.array([[0, 1], [1, 0], [1, 1], [0, 1]])
    arguments = (labels, np.where(labels, 0.99, 0.01), np.ones([4, 2]))
    groups = {"groups": np.array([1, 1, 2, 2])} if metric.needs_groups else {}
    metric.update_state(*arguments, **groups)
    value, error = metric.value_and_error()
    assert value.shape == error.shape == (2,)
    assert np.isfinite(value).all()
    if choice.better == "larger" and name not in ("rce", "nrce"):
        best = 0.75 if name == "reciprocal_rank_of_positives" else 1.0
        np.testing.assert_allclose(value[0], best)


def test_how_exact_and_about_whom_an_area_is():
    """Users 1 and 2 have a pair each, 3 saw no positive; two scores share a bin."""
    labels, scores = [[1], [0], [1], [0], [0]], [[0.9], [0.1], [0.5], [0.5], [0.2]]
    found = {}
    for name in ("auroc", "binned_auroc", "binned_auroc_bound", "gauc_coverage"):
        metric = metric_choice.find(name, "s").make(1)
        groups = {"groups": [1, 1, 2, 2, 3]} if metric.needs_groups else {}
        metric.update_state(labels, scores, **groups)
        value, error = metric.value_and_error()
        found[name] = (float(value[0]), float(error[0]))
    # Of six pairs one shares a bin, and counts half.
    assert found["binned_auroc_bound"][0] == pytest.approx(0.5 / 6)
    assert np.isnan(found["binned_auroc_bound"][1])
    assert found["gauc_coverage"][0] == pytest.approx(4 / 5)
    # w (c - 4/5) per user: 0.4, 0.4 and -0.8; sqrt(3 / 2 * 0.96) / 5.
    assert found["gauc_coverage"][1] == pytest.approx(np.sqrt(1.5 * 0.96) / 5)


def test_the_number_in_a_name_is_the_metrics():
    assert metric_choice.find("ndcg@7", "s").make(1).k == 7
    assert metric_choice.find("hit@3", "s").make(1).k == 3
    assert metric_choice.find("precision@0.1", "s").make(1).threshold == 0.1


@pytest.mark.parametrize(
    "chosen, message",
    [
        ([], "s must name at least one metric"),
        (
            ["aurroc"],
            "s names the metric 'aurroc', which is none of .*Did you mean 'auroc'",
        ),
        (["ndcg"], "names the metric 'ndcg', which .* Did you mean 'ndcg@k'"),
        (["auroc@3"], "names the metric 'auroc@3', which is none"),
        (["hit@0"], "'hit' needs a whole number from 1 after the '@'. Rec.*'hit@0'"),
        (["recall@x"], "'recall' needs a number from 0 to 1 after .*'recall@x'"),
        (["rce", "rce"], "s names 'rce' more than once"),
    ],
)
def test_bad_names(chosen, message):
    with pytest.raises(ValueError, match=message):
        metric_choice.check(chosen, "s")


def test_which_metrics_need_groups():
    assert metric_choice.grouped(["auroc", "gauc", "ndcg@5", "ctr"]) == [
        "gauc",
        "ndcg@5",
    ]
