"""When training ends before its last step."""

import math

import pytest

from recap_tf.early_stopping import Best, EarlyStopping, judge


def _report(auroc, rce=0.0):
    tasks = {"like": {"auroc": auroc, "rce": rce}, "reply": {"auroc": 0.5, "rce": rce}}
    return {"v": tasks}


@pytest.mark.parametrize(
    "larger_is_better, values, best_step, ended_at",
    [
        (True, [0.6, 0.7, 0.7, 0.65, 0.9], 2, 4),
        (True, [0.6, 0.5, 0.7, 0.6, 0.8], 5, None),
        (False, [0.6, 0.5, 0.7, 0.55, 0.4], 2, 4),
    ],
    ids=["a tie is no new best", "patience starts anew", "smaller is better"],
)
def test_ends_after_two_evaluations_without_a_new_best(
    larger_is_better, values, best_step, ended_at
):
    rule = EarlyStopping(
        validation_set="v", patience=2, larger_is_better=larger_is_better
    )
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
        ({"metric": "auc"}, "EarlyStopping.metric must be one of .*Received: 'auc'"),
    ],
    ids=["patience", "metric"],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        EarlyStopping(validation_set="v", **settings)


def test_a_set_or_task_that_is_not_reported():
    reported = {"v": ["like"]}
    with pytest.raises(ValueError, match=r"validation_set must be one of \['v'\]"):
        EarlyStopping(validation_set="w").check(reported)
    with pytest.raises(ValueError, match="tasks names 'reply', which validation set"):
        EarlyStopping(validation_set="v", tasks=["reply"]).check(reported)


def test_a_metric_without_a_value():
    with pytest.raises(ValueError, match="auroc has no value on 'v'"):
        EarlyStopping(validation_set="v").value(_report(math.nan))
