"""Metrics of tasks and of the score, in slices."""

import math

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.evaluation.measurements import Measurements
from recap_tf.evaluation.slices import EVERYTHING, Slice


def test_golden_strata(golden):
    arrays = golden("metrics_ctr_pctr_count")
    feature = arrays["stratifier_feature"]
    batches, _, tasks = arrays["labels"].shape
    names = [f"task_{i}" for i in range(tasks)]
    slices = [Slice(name=f"stratum_{v}", feature="f", equals=v) for v in (0, 1)]
    measurements = Measurements(
        names, ["ctr", "pctr", "positives"], [one.name for one in slices]
    )
    theirs = {"ctr": "ctr", "pctr": "pctr", "positives": "count"}
    for i in range(batches):
        masks = [
            one.mask({"f": tf.constant(feature[i][:, None])}, "f") for one in slices
        ]
        measurements.update(
            {"calibrated_probabilities": tf.constant(arrays["probabilities"][i])},
            tf.constant(arrays["labels"][i]),
            tf.ones_like(arrays["labels"][i]),
            tf.stack(masks),
        )
        report = measurements.report()
        for part, found in report.items():
            for task in names:
                for metric, measured in found[task].items():
                    expected = arrays[
                        f"{theirs[metric]}/{task}/{part}/after_each_batch"
                    ]
                    np.testing.assert_allclose(
                        measured.value, expected[i], atol=1e-6, err_msg=(part, task)
                    )


def _measure(which, score_weights, slices=(), masks=(), tasks=None):
    """Two tasks, four examples in two requests."""
    measurements = Measurements(["like", "report"], which, slices, score_weights)
    outputs = {
        "calibrated_probabilities": tf.constant(
            [[0.9, 0.1], [0.2, 0.1], [0.3, 0.8], [0.1, 0.1]]
        ),
        "score": tf.constant([0.9, 0.2, -1.0, 0.1]),
    }
    labels = tf.constant([[1, 0], [0, 1], [1, 1], [0, 0]])
    masks = np.reshape(np.array(masks, bool), [len(slices), 4])
    groups = tf.constant([7, 7, 8, 8], tf.int64)
    measurements.update(outputs, labels, tf.ones([4, 2]), tf.constant(masks), groups)
    return measurements.report(tasks)


def test_the_score_is_reported_like_a_task():
    which = ["ctr", "pctr", "rce", "positives", "auroc", "mrr", "hit@1", "ndcg@2"]
    found = _measure(which, {"like": 1.0, "report": -2.0})[EVERYTHING]
    assert set(found) == {"like", "report", "score"}
    score = {name: measured.value for name, measured in found["score"].items()}
    # Its truth: 1, -2, 1 - 2 = -1, 0. Engaged with positive weight: rows 0 and 2.
    assert score["ctr"] == pytest.approx(-0.5)
    assert score["pctr"] == pytest.approx(0.05)
    assert "rce" not in score and "rce" in found["like"]
    assert score["positives"] == 2
    # Row 0 beats both negatives, row 2 neither.
    assert score["auroc"] == pytest.approx(0.5)
    assert score["mrr"] == pytest.approx((1 + 1 / 2) / 2)
    assert score["hit@1"] == pytest.approx(0.5)
    # The second request has no gain above 0.
    assert score["ndcg@2"] == pytest.approx(1.0)
    assert found["like"]["mrr"].value == pytest.approx(1.0)


def test_no_score_without_weights_or_on_a_set_of_one_task():
    assert set(_measure(["auroc"], {})[EVERYTHING]) == {"like", "report"}
    assert set(_measure(["auroc"], {"like": 1.0}, tasks=["like"])[EVERYTHING]) == {
        "like"
    }


def test_slices_hold_their_examples_alone():
    found = _measure(
        ["examples", "ctr", "gauc"],
        {"like": 1.0},
        ["first", "none"],
        [[1, 1, 0, 0], [0, 0, 0, 0]],
    )
    assert found[EVERYTHING]["like"]["examples"].value == 4
    assert found["first"]["like"]["examples"].value == 2
    assert found["first"]["like"]["ctr"].value == pytest.approx(0.5)
    assert found["first"]["report"]["ctr"].value == pytest.approx(0.5)
    assert found["first"]["score"]["examples"].value == 2
    assert found["none"]["like"]["examples"].value == 0
    assert math.isnan(found["none"]["like"]["gauc"].value)


def test_values_come_with_their_standard_errors():
    ctr = _measure(["ctr"], {})[EVERYTHING]["like"]["ctr"]
    assert ctr.value == 0.5
    # Of a mean of two ones and two zeros: sqrt(1/4 / 3).
    assert ctr.standard_error == pytest.approx(math.sqrt(0.25 / 3))


def test_a_task_called_score_and_score_weights():
    with pytest.raises(ValueError, match="must not name 'score' where there are score"):
        Measurements(["score"], ["ctr"], (), {"score": 1.0})
