"""Pieces of the report: markup, charts, rows, training logs, the survey's limit."""

import math
import re
from xml.etree import ElementTree

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.training.logs import Logs
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature, Schema
from recap_tf.evaluation.evaluation_report import Measured
from recap_tf.inspection.survey import summarize
from recap_tf.report import report_rows, report_writer
from recap_tf.report.curves import TaskScores
from recap_tf.report.curves_section import task_curves
from recap_tf.report.drawing import axes, chart, label, percent
from recap_tf.report.markup import Markup, element, number_cell, share_cell, with_error
from recap_tf.report.report_rows import ReportRow
from recap_tf.report.training_logs import read_runs, save_dir_of
from recap_tf.report.training_section import training_section


def test_text_and_attributes_are_escaped_and_markup_is_not():
    made = element("p", "a<b>&", element("i", "x"), None, title='"<', class_="y")
    assert made == '<p title="&quot;&lt;" class="y">a&lt;b&gt;&amp;<i>x</i></p>'


def test_what_no_page_can_hold_is_replaced():
    assert element("p", "a\x00\x1b\ud800b") == "<p>a\ufffd\ufffd?b</p>"
    assert len(label("x" * 99, 20)) == 20


def test_numbers_have_errors_where_there_are_any():
    assert "0.7373 <" not in number_cell(0.73731, math.nan, "{:.4f}")
    cell = number_cell(0.73731, 0.005, "{:.4f}")
    assert '0.7373<span class="se"> ± 0.0050</span>' in cell
    assert 'data-value="0.73731"' in cell and 'data-error="0.005"' in cell
    missing = number_cell(math.nan, 0.1, "{:.4f}")
    assert "no value" in missing and "data-value" not in missing
    assert with_error(math.nan, 0.1, "{}") == "no value"
    assert "width:25.0%" in share_cell(0.25)


@pytest.mark.parametrize(
    "share, expected",
    [(0.5, "50 %"), (0.00123, "0.123 %"), (2e-6, "0.0002 %"), (0.0, "0 %")],
)
def test_percent(share, expected):
    assert percent(share) == expected


def test_a_chart_keeps_odd_text_and_is_well_formed():
    with axes(2, 2) as drawn:
        drawn.set_xlabel(label("a<b>&$x_1$\x00"))
        made = chart(drawn, "t<i>", "says & shows")
    assert isinstance(made, Markup)
    tree = ElementTree.fromstring(made)
    assert "a<b>&$x_1$\ufffd" in "".join(tree.itertext())
    assert tree.find(".//{*}title").text == "t<i>. says & shows"


def _row(set_name, task, slice_name="all", **metrics):
    values = {name: Measured(value) for name, value in metrics.items()}
    return ReportRow(set_name, slice_name, task, values)


def test_rows_of_sets_of_one_task_stand_together():
    rows = [_row("all", "a"), _row("all", "b"), _row("a", "a"), _row("b", "b")]
    groups = report_rows.set_groups(rows)
    assert groups == {"all": rows[:2], "2 sets of one task each": rows[2:]}
    assert report_rows.first_set(rows) == "all"
    assert list(report_rows.set_groups(rows[:3])) == ["all", "a"]


def test_rows_are_the_report_flattened():
    report = {"v": {"all": {"x": {"auroc": Measured(0.5, 0.1)}}}}
    (row,) = report_rows.report_rows(report)
    assert row.of_everything and row.metric("auroc") == (0.5, 0.1)
    assert math.isnan(row.metric("rce").value)


@pytest.mark.parametrize("predictions", [np.full(4, np.nan), np.full(4, 0.5)])
def test_curves_of_nothing_worth_drawing_do_not_fail(predictions):
    scored = TaskScores(np.array([0, 0, 0, 1]), np.ones(4), predictions)
    made = task_curves(_row("v", "x"), "x", {"calibrated": scored}, "#000000")
    assert ("no ROC" in made) == bool(np.isnan(predictions).all())


def test_before_and_after_calibration_are_told_apart():
    rng = np.random.default_rng(0)
    labels, p = rng.random(400) < 0.2, rng.uniform(0.1, 0.3, 400)
    stages = {"as trained": p * 3, "calibrated": p}
    scored = {k: TaskScores(labels, np.ones(400), v) for k, v in stages.items()}
    made = task_curves(_row("v", "x"), "x", scored, "#000000")
    assert "as trained" in made and "calibrated" in made
    only = task_curves(
        _row("v", "x"), "x", {"calibrated": scored["calibrated"]}, "#000"
    )
    assert "as trained" not in only


@pytest.mark.parametrize(
    "stages, expected",
    [
        ({"a": 0.1, "b": 0.1, "c": 0.1}, ["c"]),
        ({"a": 0.2, "b": 0.1, "c": 0.1}, ["a", "c"]),
        ({"a": 0.2, "b": 0.3, "c": 0.1}, ["a", "b", "c"]),
        ({"a": math.nan, "c": math.nan}, ["c"]),
    ],
    ids=["nothing changes", "sampling", "sampling and calibrators", "no numbers"],
)
def test_stages_that_change_nothing_are_not_drawn(stages, expected):
    arrays = {name: np.full(3, value) for name, value in stages.items()}
    assert list(report_writer.without_repeats(arrays)) == expected


def test_logs_are_read_back_and_a_resumed_step_counts_once(tmp_path):
    logs = Logs(str(tmp_path))
    for step, loss in ((10, 0.9), (20, 0.8)):
        logs.write("train", step, {"loss": loss})
    logs.flush()
    resumed = Logs(str(tmp_path))
    for step, loss in ((20, 0.7), (30, 0.6)):
        resumed.write("train", step, {"loss": loss})
    resumed.write("v", 30, {"auroc/x": 0.75})
    resumed.flush()
    runs = read_runs(str(tmp_path))
    assert runs["train"]["loss"].x.tolist() == [10, 20, 30]
    np.testing.assert_allclose(runs["train"]["loss"].y, [0.9, 0.7, 0.6], rtol=1e-6)
    assert list(runs["v"]) == ["auroc/x"]
    section = training_section(runs, {"x": "x"}, {"x": "#000"}, 30, "v")
    assert "last 0.6" in section
    # One evaluation is no curve.
    assert "AUROC" not in section


def test_no_logs_are_no_runs(tmp_path):
    assert read_runs(str(tmp_path)) == {}
    (tmp_path / "tensorboard").mkdir()
    assert read_runs(str(tmp_path)) == {}


@pytest.mark.parametrize(
    "checkpoint, expected",
    [
        ("run/checkpoints/step-00000010", "run"),
        ("run/checkpoints/step-00000010/", "run"),
        ("copied/step-00000010", None),
    ],
)
def test_the_run_of_a_checkpoint(checkpoint, expected):
    assert save_dir_of(checkpoint) == expected


@pytest.mark.parametrize(
    "most, records, whole", [(None, 1500, True), (600, 1024, False)]
)
def test_a_survey_ends_early_and_says_so(tmp_path, most, records, whole):
    path = str(tmp_path / "a.tfrecord")
    with tf.io.TFRecordWriter(path) as writer:
        for record in serialize_examples({"x": np.ones((1500, 1))}):
            writer.write(record)
    summary = summarize(
        "a",
        [path],
        Schema([Feature("x", "float_list", 1)]),
        labels=[],
        columns=None,
        most_records=most,
    )
    assert (summary.records, summary.whole) == (records, whole)
    assert not re.search("empty", str(summary.faults))
