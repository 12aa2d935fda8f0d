"""Every metric of every task, set by set and slice by slice."""

from collections.abc import Mapping, Sequence

from recap_tf.report.drawing import dot
from recap_tf.report.markup import Markup, element, fold, number_cell, table, text_cell
from recap_tf.report.report_rows import ReportRow, metric_form, set_groups


def metrics_section(
    rows: Sequence[ReportRow], names: Mapping[str, str], colors: Mapping[str, str]
) -> Markup:
    """Makes a table for each set, of which only the first is open."""
    return element(
        "div",
        [
            _table(title, some, names, colors, open_=i == 0)
            for i, (title, some) in enumerate(set_groups(rows).items())
        ],
    )


def _table(title, rows, names, colors, open_) -> Markup:
    metrics = list(dict.fromkeys(metric for row in rows for metric in row.metrics))
    sliced = any(not row.of_everything for row in rows)
    several = len({row.set_name for row in rows}) > 1
    cells = [
        [
            *([text_cell(row.set_name)] if several else []),
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
            element("b", title),
            element("span", f"{tasks} task{'s'[: tasks != 1]}", class_="hint"),
        ],
        table(
            [
                *(["set"] if several else []),
                "task",
                *(["slice"] if sliced else []),
                *metrics,
            ],
            cells,
        ),
        open_=open_,
    )


def _number(row: ReportRow, metric: str) -> Markup:
    value, error = row.metric(metric)
    form = metric_form(metric)
    return number_cell(
        value,
        # How far a count would vary is of interest to programs at most.
        error if "." in form.format(0.5) else None,
        form,
        data_set=row.set_name,
        data_slice=row.slice_name,
        data_task=row.task,
        data_metric=metric,
    )
