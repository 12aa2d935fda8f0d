"""When training ends before its last step."""

import math

import pytest

from recap_tf.evaluation.early_stopping import Best, EarlyStopping, judge
from recap_tf.evaluation.evaluation_report import Measured


def _report(auroc):
    tasks = {
        task: {"auroc": Measured(value), "log_loss": Measured(value)}
        for task, value in {"like": auroc, "reply": 0.5}.items()
    }
    return {"v": {"all": tasks | {"score": {"auroc": Measured(0.0)}}}}


@pytest.mark.parametrize(
    "settings, values, best_step, ended_at",
    [
        ({}, [0.6, 0.7, 0.7, 0.65, 0.9], 2, 4),
        ({}, [0.6, 0.5, 0.7, 0.6, 0.8], 5, None),
        ({"metric": "log_loss"}, [0.6, 0.5, 0.7, 0.55, 0.4], 2, 4),
        ({"larger_is_better": False}, [0.6, 0.5, 0.7, 0.55, 0.4], 2, 4),
    ],
    ids=["a tie is no new best", "patience starts anew", "known", "said"],
)
def test_ends_after_two_evaluations_without_a_new_best(
    settings, values, best_step, ended_at
):
    rule = EarlyStopping(validation_set="v", patience=2, **settings)
    best, ended = None, None
    for step, value in enumerate(values, start=1):
        best, end = judge(rule, best, step, _report(value))
        if end:
            ended = step
            break
    assert (best.step, ended) == (best_step, ended_at)


def test_watches_the_mean_of_the_named_tasks():
    both = EarlyStopping(validation_set="v")
    one = EarlyStopping(validation_set="v", tasks=["like"])
    assert both.value(_report(0.9)) == pytest.approx(0.7)
    assert one.value(_report(0.9)) == pytest.approx(0.9)
    assert judge(one, None, 5, _report(0.9)) == (Best(5, 0.9), False)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"patience": 0}, "EarlyStopping.patience must be at least 1. Received: 0"),
        ({"metric": "gini"}, "EarlyStopping.metric names the metric 'gini', which is"),
        ({"metric": "ctr"}, "EarlyStopping.metric: of two values of 'ctr' neither is"),
    ],
    ids=["patience", "metric", "neither is better"],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(validation_set="v", **settings)


def test_a_set_or_task_that_is_not_reported():
    reported = {"v": ["like", "score"]}
    which = ["auroc", "rce"]
    EarlyStopping(validation_set="v", tasks=["score"]).check(reported, which)
    with pytest.raises(ValueError, match=r"validation set must be one of \['v'\]"):
        EarlyStopping(validation_set="w").check(reported, which)
    with pytest.raises(ValueError, match="validation set 'v' does not report 'reply'"):
        EarlyStopping(validation_set="v", tasks=["reply"]).check(reported, which)
    with pytest.raises(ValueError, match=r"one of recap.evaluate.which_metrics, \['au"):
        EarlyStopping(validation_set="v", metric="nrce").check(reported, which)
    with pytest.raises(
        ValueError, match="EarlyStopping: 'rce' says nothing about the score"
    ):
        EarlyStopping(validation_set="v", metric="rce", tasks=["score"]).check(
            reported, which
        )


def test_a_metric_without_a_value():
    with pytest.raises(ValueError, match="auroc has no value on 'v'"):
        EarlyStopping(validation_set="v").value(_report(math.nan))
