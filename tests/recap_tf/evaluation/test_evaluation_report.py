"""The evaluation report, as a table and as JSON."""

import json
import math

from recap_tf.evaluation.evaluation_report import (
    Measured,
    as_json,
    format_table,
    from_json,
)
from recap_tf.metrics import metric_choice


def _values(**given):
    values = dict.fromkeys(metric_choice.DEFAULT, Measured(0.5, 0.01)) | given
    return {name: value for name, value in values.items() if value is not None}


REPORT = {
    "validation": {
        "all": {
            "recap.engagement.like": _values(auroc=Measured(0.75, 0.0012)),
            "recap.engagement.reply": _values(auroc=Measured(math.nan)),
        },
        "young": {
            "recap.engagement.like": _values(examples=Measured(12345.0, 111.0)),
            "recap.engagement.reply": _values(),
        },
    },
    "like": {"all": {"recap.engagement.like": _values(rce=None)}},
}


def _cells(line, columns):
    """A row's cells by column: numbers and their errors are joined by " ±"."""
    return dict(zip(columns, line.replace(" ±", "±").split(), strict=True))


def test_the_table_shows_sets_tasks_slices_and_errors():
    header, *rows = format_table(REPORT).splitlines()
    columns = header.split()
    shown = [m for m in metric_choice.DEFAULT if m not in metric_choice.DETAILS]
    assert columns == ["set", "task", *shown]
    like, young, reply, _, other = (_cells(row, columns) for row in rows)
    assert (like["set"], like["task"], like["auroc"]) == (
        "validation",
        "like",
        "0.7500±.0012",
    )
    assert (young["task"], young["examples"]) == ("young", "12,345")
    assert (reply["task"], reply["auroc"]) == ("reply", "-")
    assert (other["set"], other["task"], other["rce"]) == ("like", "like", "-")
    assert rows[1].index("young") > rows[0].index("like")


def test_chosen_metrics_are_all_shown():
    report = {"v": {"all": {"like": {"nrce": Measured(1.5, 12.25)}}}}
    header, row = format_table(report).splitlines()
    assert header.split() == ["set", "task", "nrce"]
    assert row.split() == ["v", "like", "1.50", "±12.25"]


def test_names_without_a_common_prefix_stay_whole():
    tasks = {"a.like": _values(), "b.like": _values()}
    table = format_table({"v": {"all": tasks}})
    assert "a.like" in table and "b.like" in table
    tasks = {"a.like": _values(), "a.reply": _values(), "score": _values()}
    table = format_table({"v": {"all": tasks}})
    assert "a.like" not in table and "score" in table


def test_json_has_null_for_no_value_and_reads_back():
    written = json.loads(json.dumps(as_json(7, REPORT)))
    assert written["step"] == 7
    of_validation = written["sets"]["validation"]
    assert of_validation["recap.engagement.like"]["auroc"] == 0.75
    assert of_validation["recap.engagement.reply"]["auroc"] is None
    errors = written["standard_errors"]["validation"]
    assert errors["recap.engagement.like"]["auroc"] == 0.0012
    young = written["slices"]["validation"]["young"]
    assert young["recap.engagement.like"]["examples"] == 12345
    assert written["slices"]["like"] == {}
    # NaN is not equal to itself.
    assert as_json(7, from_json(written)) == written
    assert list(from_json(written)["validation"]) == ["all", "young"]
