"""The evaluation report, as a table and as JSON."""

import json
import math

from recap_tf.evaluation import METRICS, as_json, format_table


def _values(**given):
    return dict.fromkeys(METRICS, 0.5) | given


def test_the_table_shows_every_set_and_task_and_a_dash_for_no_value():
    report = {
        "validation": {
            "recap.engagement.like": _values(auroc=0.75, examples=12345.0),
            "recap.engagement.reply": _values(auroc=math.nan),
        },
        "like": {"recap.engagement.like": _values()},
    }
    header, first, second, third = format_table(report).splitlines()
    assert header.split() == ["set", "task", *METRICS]
    assert first.split()[:3] == ["validation", "like", "12,345"]
    assert first.split()[2 + list(METRICS).index("auroc")] == "0.7500"
    assert second.split()[2 + list(METRICS).index("auroc")] == "-"
    assert third.split()[:2] == ["like", "like"]


def test_names_without_a_common_prefix_stay_whole():
    table = format_table({"v": {"a.like": _values(), "b.like": _values()}})
    assert "a.like" in table and "b.like" in table


def test_json_has_null_for_no_value():
    report = {"v": {"like": _values(auroc=math.nan, rce=1.5)}}
    written = json.loads(json.dumps(as_json(7, report)))
    assert written["step"] == 7
    assert written["sets"]["v"]["like"]["auroc"] is None
    assert written["sets"]["v"]["like"]["rce"] == 1.5
