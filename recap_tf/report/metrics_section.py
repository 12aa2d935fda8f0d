"""Every metric of every task, set by set and slice by slice."""

import itertools
from collections.abc import Mapping, Sequence

from recap_tf.report.drawing import INK
from recap_tf.report.markup import Markup, element, fold, number_cell, table, text_cell
from recap_tf.report.measurements import MeasuredTask, metric_form


def metrics_section(
    measured: Sequence[MeasuredTask],
    names: Mapping[str, str],
    colors: Mapping[str, str],
) -> Markup:
    """A table for each set, of which only the first is open."""
    sets = itertools.groupby(measured, key=lambda one: one.set_name)
    return element(
        "div",
        [
            _set_table(name, list(tasks), names, colors, open_=i == 0)
            for i, (name, tasks) in enumerate(sets)
        ],
    )


def _set_table(name, measured, names, colors, open_) -> Markup:
    metrics = list(dict.fromkeys(metric for one in measured for metric in one.metrics))
    sliced = any(one.slice_name for one in measured)
    rows = [
        [
            text_cell(
                element("i", style=f"background:{colors.get(one.task, INK)}"),
                names.get(one.task, one.task),
                head=True,
                title=one.task,
            ),
            *([text_cell(one.slice_name or "all")] if sliced else []),
            *(_number(one, metric) for metric in metrics),
        ]
        for one in measured
    ]
    tasks = len({one.task for one in measured})
    counted = f"{tasks} task" + ("s" if tasks != 1 else "")
    return fold(
        [element("b", name), element("span", counted, class_="hint")],
        table(["task", *(["slice"] if sliced else []), *metrics], rows),
        open_=open_,
    )


def _number(one: MeasuredTask, metric: str) -> Markup:
    found = one.metric(metric)
    return number_cell(
        found.value,
        metric_form(metric),
        found.error,
        data_set=one.set_name,
        data_slice=one.slice_name,
        data_task=one.task,
        data_metric=metric,
    )
