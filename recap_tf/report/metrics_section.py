"""Every metric of every task, set by set and slice by slice."""

import itertools
from collections.abc import Mapping, Sequence

from recap_tf.report.drawing import dot
from recap_tf.report.markup import Markup, element, fold, number_cell, table, text_cell
from recap_tf.report.report_rows import ReportRow, metric_form


def metrics_section(
    rows: Sequence[ReportRow], names: Mapping[str, str], colors: Mapping[str, str]
) -> Markup:
    """A table for each set, of which only the first is open."""
    sets = itertools.groupby(rows, key=lambda row: row.set_name)
    return element(
        "div",
        [
            _set_table(name, list(of_set), names, colors, open_=i == 0)
            for i, (name, of_set) in enumerate(sets)
        ],
    )


def _set_table(name, rows, names, colors, open_) -> Markup:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    sliced = any(not row.of_everything for row in rows)
    cells = [
        [
            text_cell(
                dot(colors.get(row.task)),
                names.get(row.task, row.task),
                head=True,
                title=row.task,
            ),
            *([text_cell(row.slice_name)] if sliced else []),
            *(_number(row, metric) for metric in metrics),
        ]
        for row in rows
    ]
    tasks = len({row.task for row in rows})
    return fold(
        [
            element("b", name),
            element("span", f"{tasks} task{'s'[: tasks != 1]}", class_="hint"),
        ],
        table(["task", *(["slice"] if sliced else []), *metrics], cells),
        open_=open_,
    )


def _number(row: ReportRow, metric: str) -> Markup:
    return number_cell(
        *row.metric(metric),
        metric_form(metric),
        data_set=row.set_name,
        data_slice=row.slice_name,
        data_task=row.task,
        data_metric=metric,
    )
