"""ROC, precision and recall, reliability and score histograms, task by task."""

from collections.abc import Mapping

import numpy as np

from recap_tf.report.curves import (
    TaskScores,
    histogram,
    precision_recall,
    reliability,
    roc,
)
from recap_tf.report.drawing import (
    MUTED,
    axes,
    chart,
    dot,
    percent,
    show_probabilities,
)
from recap_tf.report.markup import Markup, element, with_error
from recap_tf.report.report_rows import ReportRow, metric_form

_WIDTH, _HEIGHT = 3.0, 2.3
# Rates that span more than this are shown by their logarithm.
_LINEAR_SPAN = 30


def task_curves(
    measured: ReportRow,
    name: str,
    scored: Mapping[str, TaskScores],
    color: str,
) -> Markup:
    """Draws the four charts of one task on one set.

    Args:
        measured: the task's metrics, of the whole set.
        name: what people call the task.
        scored: stage -> its labels and predictions, the final one last. Earlier
            stages, before calibration, show in the reliability chart.
        color: the task's, as in all charts of the page.
    """
    final = list(scored.values())[-1]
    charts = [
        _roc_chart(measured, name, final, color),
        _precision_chart(measured, name, final, color),
        _reliability_chart(name, scored, color),
        _histogram_chart(name, final, color),
    ]
    missing = _missing_class(final)
    return element(
        "article",
        element("h4", dot(color), name),
        element("p", missing, class_="warning") if missing else None,
        element("div", [drawn for drawn in charts if drawn], class_="charts"),
        class_="task",
    )


def _missing_class(scored: TaskScores) -> str | None:
    if scored.has_both_classes:
        return None
    lacks = "examples" if not len(scored.labels) else "negatives"
    if len(scored.labels) and not scored.labels.any():
        lacks = "positives"
    return f"No {lacks} of this task here, so no ROC and no precision-recall curve."


def _roc_chart(measured, name, scored, color) -> Markup | None:
    curve = roc(scored)
    if curve is None:
        return None
    with axes(_WIDTH, _HEIGHT) as drawn:
        drawn.plot([0, 1], [0, 1], color=MUTED, lw=0.9, ls=(0, (4, 3)))
        drawn.fill_between(curve.x, curve.y, color=color, alpha=0.08, lw=0)
        drawn.plot(curve.x, curve.y, color=color)
        drawn.set(xlim=(0, 1), ylim=(0, 1.01))
        drawn.set(xlabel="share of negatives", ylabel="share of positives")
        area = measured.metric("auroc")
        shown = with_error(area.value, area.standard_error, metric_form("auroc"))
        says = (
            f"ROC curve of {name}: each point is a threshold on the score; across, the "
            "share of negatives above it, up, the share of positives. The dashed "
            f"line is chance. AUROC {shown}; the highest 10 % of the negatives' scores "
            f"hold {curve.at(0.1):.0%} of the positives."
        )
        return chart(drawn, "ROC", says, f"AUROC {shown}")


def _precision_chart(measured, name, scored, color) -> Markup | None:
    curve = precision_recall(scored)
    if curve is None:
        return None
    # The first few examples alone would set the scale otherwise.
    settled = curve.y[curve.x >= 0.02]
    top = min(max(settled.max(initial=0.0), scored.rate) * 1.15, 1.02)
    logarithmic = top > _LINEAR_SPAN * scored.rate
    place = np.log10 if logarithmic else np.asarray
    low = scored.rate / 2 if logarithmic else 0.0
    with axes(_WIDTH, _HEIGHT) as drawn:
        drawn.axhline(place(scored.rate), color=MUTED, lw=0.9, ls=(0, (4, 3)))
        drawn.plot(curve.x, place(curve.y), color=color)
        drawn.set(xlim=(0, 1), ylim=(place(low), place(top)))
        drawn.set(xlabel="recall", ylabel="precision")
        _rate_ticks(drawn.yaxis, place(low), place(top), logarithmic)
        area = measured.metric("pr_auc")
        shown = with_error(area.value, area.standard_error, "{:.4f}")
        half = np.interp(0.5, curve.x, curve.y)
        says = (
            f"Precision over recall of {name}, from the highest threshold on the left "
            "to none on the right. The dashed line is the share of positives, "
            f"{percent(scored.rate)}. Half of the positives are found at a precision "
            f"of {percent(half)}."
        )
        note = f"base rate {percent(scored.rate)}"
        if "pr_auc" in measured.metrics:
            note = f"area {shown}"
        return chart(drawn, "Precision, recall", says, note)


def _reliability_chart(name, scored, color) -> Markup | None:
    bins = {stage: reliability(scores) for stage, scores in scored.items()}
    final = list(bins.values())[-1]
    if final is None:
        return None
    rates = np.concatenate([np.append(b.predicted, b.observed) for b in bins.values()])
    positive = rates[rates > 0]
    logarithmic = positive.max(initial=0) > _LINEAR_SPAN * positive.min(initial=1)
    floor = positive.min(initial=1) / 2 if logarithmic else 0.0

    def place(values):
        return np.log10(np.maximum(values, floor)) if logarithmic else values

    with axes(_WIDTH, _HEIGHT) as drawn:
        low, high = place(np.array([floor, rates.max(initial=1e-9)]))
        high += 0.06 * (high - low)
        drawn.plot([low, high], [low, high], color=MUTED, lw=0.9, ls=(0, (4, 3)))
        for (stage, of_stage), line in zip(
            reversed(bins.items()), ("-", ":", "--"), strict=False
        ):
            x, y = place(of_stage.predicted), place(of_stage.observed)
            last = of_stage is final
            if last:
                bars = np.stack([y - place(of_stage.low), place(of_stage.high) - y])
                drawn.errorbar(
                    x, y, np.maximum(bars, 0), fmt="none", ecolor=color, elinewidth=1.2
                )
            # A rate of 0 has no place on a logarithmic axis: a bar without a dot.
            there = of_stage.observed > (0 if logarithmic else -1)
            drawn.plot(
                x[there],
                y[there],
                color=color if last else MUTED,
                marker="o",
                ms=4 if last else 2.5,
                lw=1.5 if last else 1.0,
                ls=line,
                label=stage,
            )
        drawn.set(xlim=(low, high), ylim=(low, high))
        drawn.set(xlabel="predicted", ylabel="observed")
        for axis in (drawn.xaxis, drawn.yaxis):
            _rate_ticks(axis, low, high, logarithmic)
        if len(bins) > 1:
            drawn.legend(loc="upper left", borderaxespad=0.1, handlelength=1.4)
        fits = (final.low <= final.predicted) & (final.predicted <= final.high)
        covered = np.count_nonzero(fits)
        says = (
            f"Reliability of {name}: examples in ten bins of equal weight by their "
            "prediction; across, the mean prediction, up, the share of positives with "
            "its 95 % interval. Points below the dashed line are predicted too high."
            f" {covered} of {len(final.predicted)} intervals hold the prediction."
        )
        note = f"{covered} of {len(final.predicted)} deciles fit"
        return chart(drawn, "Calibration", says, note)


def _rate_ticks(axis, low: float, high: float, logarithmic: bool) -> None:
    if logarithmic:
        show_probabilities(axis, low, high, log_odds=False)
    else:
        axis.set_major_formatter(lambda y, _: percent(y))


def _histogram_chart(name, scored, color) -> Markup | None:
    shares = histogram(scored)
    if shares is None:
        return None
    with axes(_WIDTH, _HEIGHT) as drawn:
        edges = shares.edges
        drawn.stairs(shares.negatives, edges, fill=True, color="#b6c0ca", alpha=0.75)
        drawn.stairs(shares.negatives, edges, color="#7c8894", label="negatives")
        drawn.stairs(shares.positives, edges, fill=True, color=color, alpha=0.3)
        drawn.stairs(shares.positives, edges, color=color, lw=1.6, label="positives")
        drawn.set_xlim(edges[0], edges[-1])
        top = max(shares.negatives.max(), shares.positives.max())
        drawn.set_ylim(0, 1.25 * top)
        show_probabilities(drawn.xaxis, edges[0], edges[-1], log_odds=True)
        drawn.yaxis.set_major_formatter(lambda y, _: percent(y))
        drawn.set(xlabel="predicted (log odds)", ylabel="share of class")
        drawn.legend(loc="upper right", ncols=2, borderaxespad=0.1, handlelength=1.2)

        def median(labels) -> str:
            chosen = scored.predictions[scored.labels == labels]
            return percent(float(np.median(chosen))) if len(chosen) else "none"

        says = (
            f"Predicted probabilities of {name} on a scale of log odds, grey for "
            "negatives, coloured for positives, each adding up to 100 %. The less "
            f"they overlap, the better. Medians: {median(False)} and {median(True)}."
        )
        note = f"medians {median(False)} and {median(True)}"
        return chart(drawn, "Scores", says, note)
