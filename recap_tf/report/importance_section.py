"""What the model lives on: drops in AUROC when a part of the input is permuted."""

from collections.abc import Mapping, Sequence

import numpy as np

from recap_tf.report.drawing import INK, axes, chart, label
from recap_tf.report.importance import Importance
from recap_tf.report.markup import Markup, element, fold, number_cell, table, text_cell

_BARS = 12
_FORM = "{:.4f}"


def importance_section(
    whole: Sequence[Importance],
    columns: Sequence[Importance],
    names: Mapping[str, str],
    colors: Mapping[str, str],
) -> Markup:
    """Bars by task of the most important parts, and tables of all.

    Args:
        whole: of whole features.
        columns: of columns within them; may be empty.
        names: task -> its name for people, in the order of the drops.
        colors: task -> its colour.
    """
    shown = columns or whole
    charts = [
        _bars(shown, i, name, colors[task])
        for i, (task, name) in enumerate(names.items())
    ]
    charts = [one for one in charts if one]
    unseen = [one.group.name for one in [*whole, *columns] if one.none_at_all]
    note = None
    if unseen:
        listed = ", ".join(unseen[:20]) + (", …" if len(unseen) > 20 else "")
        note = element(
            "p",
            f"Without any effect, so never seen by the model: {listed}.",
            class_="hint",
        )
    return element(
        "div",
        element("div", charts, class_="charts wide"),
        note,
        fold(
            [element("b", "Whole features"), _count(whole)],
            _table(whole, names),
            open_=True,
        ),
        fold([element("b", "Columns"), _count(columns)], _table(columns, names))
        if columns
        else None,
    )


def _count(measured: Sequence[Importance]) -> Markup:
    return element("span", f"{len(measured)} groups", class_="hint")


def _bars(
    measured: Sequence[Importance], task: int, name: str, color: str
) -> Markup | None:
    known = [one for one in measured if not np.isnan(one.drops[task])]
    top = sorted(known, key=lambda one: -one.drops[task])[:_BARS]
    if not top:
        return None
    with axes(4.6, 0.7 + 0.23 * len(top)) as drawn:
        places = np.arange(len(top))
        drops = np.array([one.drops[task] for one in top])
        errors = np.array([one.errors[task] for one in top])
        drawn.barh(
            places,
            drops,
            height=0.68,
            color=color,
            alpha=0.8,
            xerr=1.96 * errors,
            error_kw={"ecolor": INK, "elinewidth": 1.0},
        )
        drawn.axvline(0, color=INK, lw=0.8)
        drawn.set_yticks(places, [label(one.group.name, 30) for one in top])
        drawn.tick_params(axis="y", labelcolor=INK, length=0)
        drawn.set_ylim(len(top) - 0.4, -0.6)
        drawn.grid(axis="y", visible=False)
        drawn.xaxis.get_major_locator().set_params(nbins=5)
        drawn.set_xlabel("drop in AUROC")
        said = "; ".join(
            f"{one.group.name} {one.drops[task]:.4f} ± {one.errors[task]:.4f}"
            for one in top
        )
        says = (
            f"Drop in AUROC of {name} when a part of the input is permuted, with 95 % "
            f"intervals, the {len(top)} largest: {said}."
        )
        return chart(drawn, name, says)


def _table(measured: Sequence[Importance], names: Mapping[str, str]) -> Markup:
    order = sorted(measured, key=lambda one: -_mean(one))
    largest = max(
        (np.nanmax(one.drops) for one in order if not np.isnan(one.drops).all()),
        default=0.0,
    )
    rows = [
        [
            text_cell(one.group.name, head=True),
            text_cell(one.group.kind, class_="hint"),
            *(
                number_cell(
                    one.drops[i],
                    one.errors[i],
                    _FORM,
                    style=_shade(one.drops[i], largest),
                    data_group=one.group.name,
                    data_task=task,
                )
                for i, task in enumerate(names)
            ),
        ]
        for one in order
    ]
    return table(["permuted", "", *names.values()], rows)


def _mean(one: Importance) -> float:
    there = one.drops[~np.isnan(one.drops)]
    return float(there.mean()) if len(there) else -np.inf


def _shade(drop: float, largest: float) -> str | None:
    if np.isnan(drop) or largest <= 0 or drop <= 0:
        return None
    return f"background:rgba(43,108,176,{0.42 * drop / largest:.3f})"
