"""The data sets: examples, label rates, and what the features hold."""

from collections.abc import Mapping

import numpy as np

from recap_tf.conversion.columns import Columns
from recap_tf.inspection.feature_summary import FeatureSummary
from recap_tf.inspection.survey import SplitSummary, column_names
from recap_tf.report.drawing import INK, MUTED, axes, chart, label, percent
from recap_tf.report.markup import (
    Markup,
    element,
    fold,
    number_cell,
    share_cell,
    table,
    text_cell,
)

_COLUMNS_SHOWN = 400


def data_section(
    summaries: Mapping[str, SplitSummary],
    left_out: Mapping[str, str],
    columns: Columns | None,
    names: Mapping[str, str],
    colors: Mapping[str, str],
) -> Markup:
    """Shows label rates of all sets side by side, and each set folded.

    Args:
        summaries: set -> what its records hold.
        left_out: set -> why its records could not be read.
        columns: names of the dense features' columns.
        names: task -> its name for people.
        colors: task -> its colour.
    """
    warnings = [
        element("p", f"{name} is left out: {reason}", class_="warning")
        for name, reason in left_out.items()
    ]
    return element(
        "div",
        warnings,
        element("div", _rates_chart(summaries, names, colors), class_="charts one"),
        _rates_table(summaries, names),
        [
            _set(name, summary, columns, open_=i == 0)
            for i, (name, summary) in enumerate(summaries.items())
        ],
    )


def _rate(summary: SplitSummary, task: str) -> tuple[float, float]:
    """The share of positives among the records, and its binomial standard error."""
    if not summary.records:
        return np.nan, np.nan
    rate = summary.labels[task] / summary.records
    return rate, float(np.sqrt(rate * (1 - rate) / summary.records))


def _rates_chart(summaries, names, colors) -> Markup | None:
    sets = [name for name, summary in summaries.items() if summary.records]
    if not sets:
        return None
    with axes(9.4, 0.9 + 0.27 * len(names)) as drawn:
        for i, task in enumerate(names):
            for j, name in enumerate(sets):
                rate, error = _rate(summaries[name], task)
                drawn.errorbar(
                    rate,
                    i + 0.5 * (j / max(len(sets) - 1, 1) - 0.5) * (len(sets) > 1),
                    xerr=1.96 * error,
                    fmt="o" if j == 0 else "s",
                    ms=5 if j == 0 else 3,
                    color=colors[task] if j == 0 else MUTED,
                    mfc=colors[task] if j == 0 else "white",
                    elinewidth=1.0,
                )
        shown = [label(name, 40) for name in names.values()]
        drawn.set_yticks(range(len(names)), shown)
        drawn.tick_params(axis="y", labelcolor=INK, length=0)
        drawn.set_ylim(len(names) - 0.4, -0.6)
        drawn.grid(axis="y", visible=False)
        drawn.set_xlim(left=0)
        drawn.xaxis.set_major_formatter(lambda x, _: percent(x))
        said = "; ".join(
            f"{name} {percent(_rate(summaries[sets[0]], task)[0])}"
            for task, name in names.items()
        )
        others = " and grey squares for the other sets" if len(sets) > 1 else ""
        says = (
            "Share of positives among the records as stored, by task, with 95 % "
            f"intervals; dots for {sets[0]}{others}: {said}."
        )
        return chart(
            drawn,
            "Share of positives in the records",
            says,
            f"dots: {sets[0]}" + ("; squares: other sets" if len(sets) > 1 else ""),
        )


def _rates_table(summaries, names) -> Markup:
    rows = []
    for name, summary in summaries.items():
        more = "" if summary.whole else "first "
        cells = [
            text_cell(name, head=True),
            number_cell(len(summary.files), None, "{:,}"),
            text_cell(f"{more}{summary.records:,}", class_="num"),
        ]
        for task in names:
            rate, error = _rate(summary, task)
            cells.append(
                number_cell(rate, error, "{:.4f}", data_rate=task, data_set=name)
            )
        rows.append(cells)
    return table(
        ["set", "files", "records", *names.values()],
        rows,
        caption="Share of positives among the records as stored ± standard error",
    )


def _set(name, summary, columns, open_) -> Markup:
    faults = [element("li", fault) for fault in summary.faults]
    features = [
        feature
        for key, feature in summary.features.items()
        if key not in summary.labels
    ]
    details = [
        _columns_table(feature, names, _missing(columns, feature.feature.name))
        for feature in features
        if (names := _names(columns, feature)) is not None
    ]
    return fold(
        [
            element("b", name),
            element("span", f"{summary.records:,} records", class_="hint"),
        ],
        element("ul", faults, class_="warning") if faults else None,
        table(
            ["feature", "type", "values", "missing", "min", "mean", "max", "zeros", ""],
            [_feature_row(feature) for feature in features],
        ),
        details,
        open_=open_,
    )


def _names(columns: Columns | None, summary: FeatureSummary) -> list[str] | None:
    """The names of the columns, or their numbers; None if there is nothing to tell."""
    if summary.feature.dtype == "bytes_list" or not summary.values:
        return None
    names = column_names(columns, summary.feature.name)
    width = len(summary.zeros)
    if names is None and summary.feature.name in ("continuous", "binary", "discrete"):
        names = [str(i) for i in range(width)]
    return names if names is not None and len(names) == width else None


def _feature_row(summary: FeatureSummary) -> list[Markup]:
    feature = summary.feature
    length = str(feature.length)
    if feature.length < 0:
        length = f"{summary.shortest or 0} to {summary.longest}"
    missing = (summary.records - summary.present) / max(summary.records, 1)
    cells = [
        text_cell(feature.name, head=True),
        text_cell(feature.dtype.removesuffix("_list")),
        text_cell(length, class_="num"),
        share_cell(missing),
    ]
    if feature.dtype == "bytes_list" or not summary.values:
        return [*cells, *(text_cell(class_="num") for _ in range(5))]
    notes = []
    if summary.not_finite.any():
        notes.append(f"{summary.not_finite.sum():,} not finite")
    constant = int(summary.constant.sum())
    if constant:
        notes.append(f"{constant:,} constant columns")
    return [
        *cells,
        _plain_number(summary.min.min()),
        _plain_number(summary.mean.mean()),
        _plain_number(summary.max.max()),
        share_cell(summary.zeros.sum() / summary.values),
        text_cell(", ".join(notes), class_="hint"),
    ]


def _missing(columns: Columns | None, feature: str) -> list[float] | None:
    """The share of the training rows that had no value, by column, as converted."""
    if columns is None or feature not in ("continuous", "discrete"):
        return None
    return [c.missing / max(columns.rows, 1) for c in getattr(columns, feature)]


def _columns_table(
    summary: FeatureSummary, names: list[str], missing: list[float] | None
) -> Markup:
    different = summary.different()
    ids = summary.feature.dtype == "int64_list" and summary.sizes is not None
    rows_there = max(summary.values // len(summary.zeros), 1)
    rows = []
    for i, name in enumerate(names[:_COLUMNS_SHOWN]):
        notes = ["constant"] if summary.constant[i] else []
        if ids:
            notes.append(f"{different[i]:,} of {summary.sizes[i]:,} ids")
        rows.append(
            [
                text_cell(name, head=True),
                _plain_number(summary.min[i]),
                _plain_number(summary.mean[i]),
                _plain_number(summary.max[i]),
                share_cell(summary.zeros[i] / rows_there),
                share_cell(summary.not_finite[i] / rows_there),
                *([share_cell(missing[i])] if missing else []),
                text_cell(", ".join(notes), class_="hint"),
            ]
        )
    more = len(names) - len(rows)
    return fold(
        [
            element("b", summary.feature.name),
            element("span", f"{len(names):,} columns", class_="hint"),
        ],
        table(
            [
                *("column", "min", "mean", "max", "zeros", "not finite"),
                *(["missing when converted"] if missing else []),
                "",
            ],
            rows,
        ),
        element("p", f"{more:,} more columns: see recap_tf.inspect.", class_="hint")
        if more
        else None,
    )


def _plain_number(value: float) -> Markup:
    return number_cell(value if np.isfinite(value) else np.nan, None, "{:,.5g}")
