"""The few numbers to look at first: each task's headline metrics, set beside set."""

from collections.abc import Mapping, Sequence

from recap_tf.report.drawing import INK, MUTED, axes, chart, dot, label
from recap_tf.report.markup import (
    Markup,
    element,
    is_missing,
    number_cell,
    table,
    text_cell,
    with_error,
)
from recap_tf.report.report_rows import ReportRow, metric_form

# Metric -> (how people call it, what a perfect or neutral model has).
_HEADLINES = {
    "auroc": ("AUROC", None),
    "gauc": ("GAUC", None),
    "pr_auc": ("PR-AUC", None),
    "nrce": ("NRCE", None),
    "rce": ("RCE", None),
    "normalized_entropy": ("Normalized entropy", None),
    "calibration": ("Calibration", 1.0),
    "calibration_error": ("Calibration error", 0.0),
}
_PLOTTED = ("auroc", "nrce", "calibration")
_COUNTS = ("examples", "positives")


def summary_section(
    rows: Sequence[ReportRow],
    names: Mapping[str, str],
    colors: Mapping[str, str],
    first_set: str,
) -> Markup:
    """Shows a table of the first set, and dots with whiskers for all sets."""
    whole = [row for row in rows if row.of_everything]
    first = [row for row in whole if row.set_name == first_set]
    metrics = {
        metric: title
        for metric, (title, _) in _HEADLINES.items()
        if any(metric in row.metrics for row in first)
    }
    counts = [name for name in _COUNTS if any(name in row.metrics for row in first)]
    cells = [
        [
            text_cell(
                dot(colors.get(row.task)),
                names.get(row.task, row.task),
                head=True,
                title=row.task,
            ),
            *(
                number_cell(row.metric(name).value, None, metric_form(name))
                for name in counts
            ),
            *(_number(row, metric) for metric in metrics),
        ]
        for row in first
    ]
    charts = [
        _dots(metric, whole, names, colors, first_set)
        for metric in _PLOTTED
        if metric in metrics
    ]
    return element(
        "div",
        table(
            ["task", *counts, *metrics.values()],
            cells,
            caption=["On ", element("b", first_set), ", value ± standard error"],
        ),
        element("div", [drawn for drawn in charts if drawn], class_="charts wide"),
    )


def _number(row: ReportRow, metric: str) -> Markup:
    return number_cell(*row.metric(metric), metric_form(metric))


def _dots(
    metric: str,
    rows: Sequence[ReportRow],
    names: Mapping[str, str],
    colors: Mapping[str, str],
    first_set: str,
) -> Markup | None:
    title, neutral = _HEADLINES[metric]
    there = [row for row in rows if not is_missing(row.metric(metric).value)]
    tasks = list(dict.fromkeys(row.task for row in there))
    if not tasks:
        return None
    with axes(4.6, 0.75 + 0.27 * len(tasks)) as drawn:
        if neutral is not None:
            drawn.axvline(neutral, color=MUTED, lw=0.9, ls=(0, (4, 3)))
        for row in there:
            measured, first = row.metric(metric), row.set_name == first_set
            color = colors.get(row.task, INK)
            drawn.errorbar(
                measured.value,
                tasks.index(row.task) + (0 if first else 0.25),
                xerr=None
                if is_missing(measured.standard_error)
                else 1.96 * measured.standard_error,
                fmt="o",
                ms=6 if first else 3.5,
                color=color if first else MUTED,
                mfc=color if first else "white",
                elinewidth=1.6 if first else 0.8,
                zorder=3 if first else 2,
            )
        shown = [label(names.get(task, task)) for task in tasks]
        drawn.set_yticks(range(len(tasks)), shown)
        drawn.tick_params(axis="y", labelcolor=INK, length=0)
        drawn.set_ylim(len(tasks) - 0.4, -0.6)
        drawn.margins(x=0.08)
        drawn.grid(axis="y", visible=False)
        several = len({row.set_name for row in there}) > 1
        values = "; ".join(
            f"{names.get(row.task, row.task)} "
            + with_error(*row.metric(metric), metric_form(metric))
            for row in there
            if row.set_name == first_set
        )
        says = (
            f"{title} by task with 95 % intervals; filled dots for {first_set}"
            f"{', small hollow ones for the other sets' if several else ''}"
            f"{', dashed where it should be' if neutral is not None else ''}: {values}."
        )
        others = "; hollow: other sets" if several else ""
        return chart(drawn, title, says, f"filled: {first_set}{others}")
