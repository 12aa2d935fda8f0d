"""Losses, validation metrics and learning rates over the steps of training."""

from collections.abc import Mapping, Sequence

import numpy as np

from recap_tf.report.curves import Curve
from recap_tf.report.drawing import INK, MUTED, axes, chart, label
from recap_tf.report.markup import Markup, element, fold
from recap_tf.report.training_logs import Runs

_WIDTH, _HEIGHT = 3.0, 2.1
# What is drawn of the validation metrics that were logged.
_METRICS = {"auroc": "AUROC", "nrce": "NRCE", "calibration": "Calibration"}
_OTHER_SETS = ("#8793a0", "#b39b74", "#7fa39a", "#a58bb0")


def training_section(
    runs: Runs,
    names: Mapping[str, str],
    colors: Mapping[str, str],
    step: int,
    first_set: str | None,
) -> Markup:
    """Draws all curves of the run; tasks as small multiples.

    Args:
        runs: see `read_runs`.
        names: task -> its name for people.
        colors: task -> its colour.
        step: how many updates the checkpoint of the page has had.
        first_set: the validation set whose line has the task's colour.
    """
    train = runs.get("train", {})
    runs = dict(sorted(runs.items(), key=lambda item: item[0] != first_set))
    whole = [
        _chart("Loss", {"loss": train.get("loss")}, step, colors={"loss": INK}),
        _rates_chart(train, names, colors, step),
        _chart(
            "Examples per second",
            {"speed": train.get("speed/examples_per_second")},
            step,
            colors={"speed": INK},
            from_zero=True,
        ),
    ]
    by_metric = {
        "Loss": {
            task: _chart(
                name,
                {"loss": train.get(f"loss/{task}")},
                step,
                colors={"loss": colors[task]},
                what="Loss",
            )
            for task, name in names.items()
        }
    }
    for metric, title in _METRICS.items():
        by_metric[title] = {
            task: _metric_chart(runs, metric, task, name, colors[task], step)
            for task, name in names.items()
        }
    return element(
        "div",
        element("div", [drawn for drawn in whole if drawn], class_="charts"),
        [_small_multiples(title, charts) for title, charts in by_metric.items()],
    )


def _small_multiples(title: str, charts: Mapping[str, Markup | None]) -> Markup | None:
    there = [drawn for drawn in charts.values() if drawn]
    if not there:
        return None
    return fold(
        [element("b", title), element("span", "by task", class_="hint")],
        element("div", there, class_="charts"),
        open_=title in ("Loss", "AUROC"),
    )


def _metric_chart(runs, metric, task, name, color, step) -> Markup | None:
    tag = f"{metric}/{task}"
    curves = {run: tags[tag] for run, tags in runs.items() if tag in tags}
    colors = dict(zip(list(curves)[1:], _OTHER_SETS * len(curves), strict=False))
    if curves:
        colors[next(iter(curves))] = color
    # One evaluation is no curve.
    if all(len(curve.x) < 2 for curve in curves.values()):
        return None
    return _chart(name, curves, step, colors=colors, what=_METRICS[metric])


def _rates_chart(train, names, colors, step) -> Markup | None:
    prefix = "learning_rate/"
    curves = {
        names.get(group := tag.removeprefix(prefix), group): curve
        for tag, curve in train.items()
        if tag.startswith(prefix)
    }
    by_name = {names[task]: color for task, color in colors.items() if task in names}
    return _chart(
        "Learning rates",
        _without_copies(curves),
        step,
        colors={name: by_name.get(name, INK) for name in curves},
        from_zero=True,
    )


def _without_copies(curves: Mapping[str, Curve]) -> dict[str, Curve]:
    """The curves, or the first alone if they are all equal."""
    values = list(curves.values())
    same = [np.array_equal(values[0].y, curve.y) for curve in values]
    if len(values) > 1 and all(same):
        return {next(iter(curves)): values[0]}
    return dict(curves)


def _chart(
    title: str,
    curves: Mapping[str, Curve | None],
    step: int,
    *,
    colors: Mapping[str, str],
    what: str = "",
    from_zero: bool = False,
) -> Markup | None:
    """Draws lines over steps, and a dashed upright where the checkpoint is."""
    curves = {name: curve for name, curve in curves.items() if curve is not None}
    if not curves:
        return None
    with axes(_WIDTH, _HEIGHT) as drawn:
        for name, curve in curves.items():
            # A single point has no line.
            drawn.plot(
                curve.x,
                curve.y,
                color=colors.get(name, MUTED),
                marker="o" if len(curve.x) < 25 else "",
                ms=3,
                lw=1.4,
                label=label(name, 22),
            )
        drawn.axvline(step, color=MUTED, lw=0.9, ls=(0, (4, 3)))
        drawn.set_xlabel("step")
        drawn.xaxis.get_major_locator().set_params(nbins=5, integer=True)
        drawn.xaxis.set_major_formatter(lambda x, _: f"{x:,.0f}")
        if from_zero:
            drawn.set_ylim(bottom=0)
            drawn.yaxis.set_major_formatter(lambda y, _: _short(y))
        if 1 < len(curves) <= 5:
            drawn.legend(loc="best", handlelength=1.2)
        subject = f"{what} of {title}" if what else title
        return chart(drawn, title, _says(subject, curves), _last(curves))


def _says(title: str, curves: Mapping[str, Curve]) -> str:
    lines = "; ".join(
        f"{name} from {_short(curve.y[0])} at step {curve.x[0]:,} to "
        f"{_short(curve.y[-1])} at step {curve.x[-1]:,}"
        for name, curve in list(curves.items())[:12]
    )
    return f"{title} over the steps of training: {lines}. Dashed: this checkpoint."


def _last(curves: Mapping[str, Curve]) -> str:
    ends: Sequence[float] = [curve.y[-1] for curve in curves.values()]
    if len(ends) == 1:
        return f"last {_short(ends[0])}"
    return f"last {_short(min(ends))} to {_short(max(ends))}"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
