"""What an evaluation measured: in Python, as JSON, and as a table for people."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

from recap_tf.core.text_table import aligned
from recap_tf.evaluation.slices import EVERYTHING
from recap_tf.metrics import metric_choice
from recap_tf.metrics.metric_choice import SCORE


class Measured(NamedTuple):
    """A metric's value and its standard error; NaN where there is none."""

    value: float
    standard_error: float = math.nan


TaskReport = dict[str, dict[str, Measured]]
"""Task -> metric -> value."""
SetReport = dict[str, TaskReport]
"""Slice -> `TaskReport`; the slice `EVERYTHING` is always there."""
Report = dict[str, SetReport]
"""Validation set -> `SetReport`."""


def as_json(step: int, report: Mapping[str, SetReport]) -> dict[str, Any]:
    """The report as plain lists and dicts, null for a value that there is not.

    {"step":  100,
     "sets":            {set: {task: {metric: value}}},
     "standard_errors": {set: {task: {metric: standard error}}},
     "slices":                 {set: {slice: {task: {metric: value}}}},
     "slice_standard_errors":  {set: {slice: {task: {metric: standard error}}}}}
    """
    slices = {
        name: {part: tasks for part, tasks in parts.items() if part != EVERYTHING}
        for name, parts in report.items()
    }
    whole = {name: parts[EVERYTHING] for name, parts in report.items()}
    return {
        "step": step,
        "sets": _plain(whole, 0),
        "standard_errors": _plain(whole, 1),
        "slices": _plain(slices, 0),
        "slice_standard_errors": _plain(slices, 1),
    }


def from_json(written: Mapping[str, Any]) -> Report:
    """The report of which `as_json` made `written`."""
    report = {}
    for name, tasks in written["sets"].items():
        report[name] = {EVERYTHING: _measured(tasks, written["standard_errors"][name])}
        errors = written["slice_standard_errors"][name]
        for part, tasks_of_part in written["slices"][name].items():
            report[name][part] = _measured(tasks_of_part, errors[part])
    return report


def _plain(tree: Any, field: int) -> Any:
    if isinstance(tree, Measured):
        return tree[field] if math.isfinite(tree[field]) else None
    return {key: _plain(branch, field) for key, branch in tree.items()}


def _measured(values: Mapping, errors: Mapping) -> TaskReport:
    def number(value: float | None) -> float:
        return math.nan if value is None else value

    return {
        task: {
            metric: Measured(number(value), number(errors[task][metric]))
            for metric, value in metrics.items()
        }
        for task, metrics in values.items()
    }


def format_table(report: Mapping[str, SetReport]) -> str:
    """The report as a table; "-" where a metric has no value.

    A task's row is followed by one for each slice, indented. "0.7512 ±.0012" is a value
    and its standard error. Tasks are shown without the dotted prefix that all of them
    share. Where all of `metric_choice.DEFAULT` was measured, its details are left to
    the JSON.
    """
    rows = list(_rows(report))
    columns = _columns(report)
    prefix = common_prefix(task for _, task, _, _ in rows)
    cells = [["set", "task", *columns]]
    for name, task, part, metrics in rows:
        first = task.removeprefix(prefix) if part == EVERYTHING else f"  {part}"
        shown = [_cell(metric, metrics.get(metric)) for metric in columns]
        cells.append([name, first, *shown])
    return aligned(cells, left=2)


def _rows(
    report: Mapping[str, SetReport],
) -> Iterator[tuple[str, str, str, Mapping[str, Measured]]]:
    """(set, task, slice, metrics), in the table's order."""
    for name, parts in report.items():
        for task in parts[EVERYTHING]:
            for part, tasks in parts.items():
                yield name, task, part, tasks[task]


def _columns(report: Mapping[str, SetReport]) -> list[str]:
    measured: dict[str, None] = {}
    for _, _, _, metrics in _rows(report):
        measured |= dict.fromkeys(metrics)
    hidden = (
        metric_choice.DETAILS if set(metric_choice.DEFAULT) <= set(measured) else ()
    )
    return [metric for metric in measured if metric not in hidden]


def common_prefix(tasks: Iterable[str]) -> str:
    """The dotted prefix that all tasks share: "recap.engagement."; or ""."""
    prefixes = {name[: name.rfind(".") + 1] for name in tasks if name != SCORE}
    return prefixes.pop() if len(prefixes) == 1 else ""


def _cell(metric: str, measured: Measured | None) -> str:
    if measured is None or math.isnan(measured.value):
        return "-"
    form = metric_choice.find(metric, "The report").form
    value = form.format(measured.value)
    # How far counts would vary is of interest to programs at most.
    if "." not in value or math.isnan(measured.standard_error):
        return value
    return f"{value} ±{form.format(measured.standard_error).removeprefix('0')}"
