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
    """Draws bars by task of the most important parts, and tables of all.

    Args:
        whole: the importance of whole features.
        columns: that of columns within them; may be empty.
        names: task -> its name for people, in the order of the drops.
        colors: task -> its colour.
    """
    shown = columns or whole
    charts = [
        _bars(shown, i, name, colors[task])
        for i, (task, name) in enumerate(names.items())
    ]
    charts = [drawn for drawn in charts if drawn]
    unseen = [part.group.name for part in [*whole, *columns] if part.none_at_all]
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
    known = [part for part in measured if not np.isnan(part.drops[task])]
    top = sorted(known, key=lambda part: -part.drops[task])[:_BARS]
    if not top:
        return None
    with axes(4.6, 0.7 + 0.23 * len(top)) as drawn:
        places = np.arange(len(top))
        drops = np.array([part.drops[task] for part in top])
        errors = np.array([part.errors[task] for part in top])
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
        drawn.set_yticks(places, [label(part.group.name, 30) for part in top])
        drawn.tick_params(axis="y", labelcolor=INK, length=0)
        drawn.set_ylim(len(top) - 0.4, -0.6)
        drawn.grid(axis="y", visible=False)
        drawn.xaxis.get_major_locator().set_params(nbins=5)
        drawn.set_xlabel("drop in AUROC")
        said = "; ".join(
            f"{part.group.name} {part.drops[task]:.4f} ± {part.errors[task]:.4f}"
            for part in top
        )
        says = (
            f"Drop in AUROC of {name} when a part of the input is permuted, with 95 % "
            f"intervals, the {len(top)} largest: {said}."
        )
        return chart(drawn, name, says)


def _table(measured: Sequence[Importance], names: Mapping[str, str]) -> Markup:
    order = sorted(measured, key=lambda part: -_mean(part))
    largest = max(
        (np.nanmax(part.drops) for part in order if not np.isnan(part.drops).all()),
        default=0.0,
    )
    rows = [
        [
            text_cell(part.group.name, head=True),
            text_cell(part.group.kind, class_="hint"),
            *(
                number_cell(
                    part.drops[i],
                    part.errors[i],
                    _FORM,
                    style=_shade(part.drops[i], largest),
                    data_group=part.group.name,
                    data_task=task,
                )
                for i, task in enumerate(names)
            ),
        ]
        for part in order
    ]
    return table(["permuted", "", *names.values()], rows)


def _mean(part: Importance) -> float:
    there = part.drops[~np.isnan(part.drops)]
    return float(there.mean()) if len(there) else -np.inf


def _shade(drop: float, largest: float) -> str | None:
    if np.isnan(drop) or largest <= 0 or drop <= 0:
        return None
    return f"background:rgba(43,108,176,{0.42 * drop / largest:.3f})"
