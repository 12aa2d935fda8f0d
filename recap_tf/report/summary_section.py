"""The few numbers to look at first: each task's headline metrics, set beside set."""

from collections.abc import Mapping, Sequence

from recap_tf.report.drawing import INK, MUTED, axes, chart, label
from recap_tf.report.markup import (
    Markup,
    element,
    is_missing,
    number_cell,
    table,
    text_cell,
    with_error,
)
from recap_tf.report.measurements import MeasuredTask, metric_form

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
_COUNTS = {"examples": "examples", "positives": "positives"}


def summary_section(
    measured: Sequence[MeasuredTask],
    names: Mapping[str, str],
    colors: Mapping[str, str],
    first_set: str,
) -> Markup:
    """A table of the first set, and dots with whiskers for all sets."""
    first = [one for one in measured if one.set_name == first_set]
    whole = [one for one in first if not one.slice_name]
    metrics = {
        metric: title
        for metric, (title, _) in _HEADLINES.items()
        if any(metric in one.metrics for one in whole)
    }
    rows = [
        [
            text_cell(
                element("i", style=f"background:{colors.get(one.task, INK)}"),
                names.get(one.task, one.task),
                head=True,
                title=one.task,
            ),
            *(_number(one, metric, with_error=False) for metric in _COUNTS),
            *(_number(one, metric) for metric in metrics),
        ]
        for one in whole
    ]
    all_whole = [one for one in measured if not one.slice_name]
    charts = [
        _dots(metric, all_whole, names, colors, first_set)
        for metric in _PLOTTED
        if metric in metrics
    ]
    return element(
        "div",
        table(
            ["task", *_COUNTS.values(), *metrics.values()],
            rows,
            caption=["On ", element("b", first_set), ", value ± standard error"],
        ),
        element("div", [one for one in charts if one], class_="charts wide"),
    )


def _number(one: MeasuredTask, metric: str, with_error: bool = True) -> Markup:
    found = one.metric(metric)
    error = found.error if with_error else None
    return number_cell(found.value, metric_form(metric), error)


def _dots(
    metric: str,
    measured: Sequence[MeasuredTask],
    names: Mapping[str, str],
    colors: Mapping[str, str],
    first_set: str,
) -> Markup | None:
    title, neutral = _HEADLINES[metric]
    there = [one for one in measured if not is_missing(one.metric(metric).value)]
    tasks = [task for task in names if any(one.task == task for one in there)]
    if not tasks:
        return None
    with axes(4.6, 0.75 + 0.27 * len(tasks)) as drawn:
        if neutral is not None:
            drawn.axvline(neutral, color=MUTED, lw=0.9, ls=(0, (4, 3)))
        for one in there:
            found, first = one.metric(metric), one.set_name == first_set
            y = tasks.index(one.task) if one.task in tasks else None
            if y is None:
                continue
            color = colors.get(one.task, INK)
            drawn.errorbar(
                found.value,
                y + (0 if first else 0.25),
                xerr=None if is_missing(found.error) else 1.96 * found.error,
                fmt="o",
                ms=6 if first else 3.5,
                color=color if first else MUTED,
                mfc=color if first else "white",
                elinewidth=1.6 if first else 0.8,
                zorder=3 if first else 2,
            )
        drawn.set_yticks(range(len(tasks)), [label(names[task]) for task in tasks])
        drawn.tick_params(axis="y", labelcolor=INK, length=0)
        drawn.set_ylim(len(tasks) - 0.4, -0.6)
        drawn.margins(x=0.08)
        drawn.grid(axis="y", visible=False)
        sets = dict.fromkeys(one.set_name for one in there)
        values = "; ".join(
            f"{names[one.task]} "
            + with_error(
                one.metric(metric).value,
                one.metric(metric).error,
                metric_form(metric),
            )
            for one in there
            if one.set_name == first_set and one.task in names
        )
        says = (
            f"{title} by task with 95 % intervals; filled dots for {first_set}"
            f"{', small hollow ones for the other sets' if len(sets) > 1 else ''}"
            f"{', dashed where it should be' if neutral is not None else ''}: {values}."
        )
        others = "; hollow: other sets" if len(sets) > 1 else ""
        return chart(drawn, title, says, f"filled: {first_set}{others}")
