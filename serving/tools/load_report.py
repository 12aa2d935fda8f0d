"""The report of a load test, as JSON, as text and as a chart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import matplotlib
import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from serving.files import replacing
from serving.tools.load_outcome import LoadOutcome
from serving.tools.memory_log import MemoryLog

_BARS = 60
_PERIODS = 60
_BLUE, _RED, _GREY = "#2b6cb0", "#c53030", "#66727f"


def as_json(outcome: LoadOutcome, memory: MemoryLog | None) -> dict[str, Any]:
    """All figures of a load test."""
    requests, examples = outcome.throughput()
    report = {
        "load": dataclasses.asdict(outcome.load),
        "requests": len(outcome.intended),
        "offered_per_second": len(outcome.intended) / outcome.load.seconds,
        "requests_per_second": requests,
        "examples_per_second": examples,
        "errors": outcome.errors(),
        "warmup_errors": int((outcome.warmup_codes != "OK").sum()),
        "latency_ms": outcome.percentiles(),
        "latency_ms_by_rows": {
            str(size): outcome.percentiles(size)
            for size in np.unique(outcome.rows).tolist()
        },
        "client": {
            "lag_ms_p99": outcome.lag_ms(),
            "cpu_shares": list(outcome.cpu_shares),
            "was_the_bottleneck": outcome.client_was_the_bottleneck(),
        },
    }
    if memory is not None:
        report["memory"] = {
            "pid": memory.pid,
            "growth_mb": memory.growth(),
            "seconds": memory.seconds,
            "megabytes": memory.megabytes,
        }
    return report


def as_text(report: Mapping[str, Any]) -> str:
    """The lines that the command prints of `as_json`'s figures."""
    load = report["load"]
    kind = (
        f"Closed loop of {load['callers']} callers, latency from the sending"
        if load["rate"] is None
        else f"Poisson arrivals at {load['rate']:g}/s, latency from the intended time"
    )
    lines = [
        f"{kind}, {load['seconds']:g} s after {load['warmup_seconds']:g} s of warm-up",
        f"requests      {report['requests']} sent, "
        f"{report['offered_per_second']:.1f}/s; answered while they were sent "
        f"{report['requests_per_second']:.1f}/s, "
        f"{report['examples_per_second']:.0f} examples/s",
        "latency, ms   " + _latencies(report["latency_ms"]),
    ]
    by_rows = report["latency_ms_by_rows"]
    if len(by_rows) > 1:
        lines += [
            f"  of {rows:<9}" + _latencies(by_rows[rows])
            for rows in sorted(by_rows, key=int)
        ]
    errors = ", ".join(f"{code} {n}" for code, n in report["errors"].items())
    lines.append(f"errors        {errors or 'none'}")
    if report["warmup_errors"]:
        lines.append(f"  in warm-up  {report['warmup_errors']}")
    client = report["client"]
    shares = ", ".join(f"{share:.0%}" for share in client["cpu_shares"])
    lines.append(
        f"client        {client['lag_ms_p99']:.2f} ms late at p99; its processes took "
        f"{shares} of a core"
    )
    if client["was_the_bottleneck"]:
        lines.append(
            "  The client was late or short of CPU: the figures are its own as much as "
            "the server's. Raise --processes, or send from another machine."
        )
    if "memory" in report:
        memory = report["memory"]
        sizes = memory["megabytes"] or [0.0]
        lines.append(
            f"memory        {sizes[0]:.0f} MB at first, {max(sizes):.0f} at most, "
            f"{sizes[-1]:.0f} at the end; last quarter against second "
            f"{memory['growth_mb']:+.1f} MB"
        )
    return "\n".join(lines)


def _latencies(by_name: Mapping[str, float]) -> str:
    return "  ".join(f"{name} {value:.2f}" for name, value in by_name.items()) or "none"


def write_chart(path: str, outcome: LoadOutcome, memory: MemoryLog | None) -> None:
    """Writes a PNG: the latencies' histogram, and latency and memory over time."""
    panels = 2 + (memory is not None)
    with matplotlib.rc_context({"font.size": 9, "axes.spines.top": False}):
        figure = Figure((8, 2.8 * panels), layout="constrained")
        axes = figure.subplots(panels)
        _draw_histogram(axes[0], outcome)
        _draw_over_time(axes[1], outcome)
        if memory is not None:
            axes[2].plot(memory.seconds, memory.megabytes, color=_BLUE)
            axes[2].set(
                xlabel="seconds, warm-up included",
                ylabel=f"resident MB of {memory.pid}",
                ylim=(0, 1.1 * max(memory.megabytes, default=1.0)),
            )
        with replacing(path) as aside:
            FigureCanvasAgg(figure).print_figure(aside, format="png", dpi=120)


def _draw_histogram(axes, outcome: LoadOutcome) -> None:
    latency = outcome.latency[outcome.answered] * 1e3
    axes.set(xlabel="latency, ms", ylabel="requests")
    if not len(latency):
        return
    low, high = max(latency.min(), 1e-3), max(latency.max(), 2e-3)
    edges = np.geomspace(0.99 * low, 1.01 * high, _BARS + 1)
    sizes = np.unique(outcome.rows).tolist()
    # More than a few would not be told apart.
    grouped = len(sizes) <= 6
    data = [
        outcome.latency[outcome.answered & (outcome.rows == size)] * 1e3
        for size in sizes
    ]
    axes.hist(
        data if grouped else latency,
        edges,
        stacked=True,
        label=[f"{size} rows" for size in sizes] if grouped else "all sizes",
    )
    axes.set_xscale("log")
    for name, value in outcome.percentiles().items():
        if name in ("p50", "p99"):
            axes.axvline(value, color=_RED, linewidth=1)
            axes.annotate(
                f" {name} {value:.1f}",
                (value, 0.95),
                xycoords=("data", "axes fraction"),
                color=_RED,
            )
    requests, examples = outcome.throughput()
    axes.set_title(
        f"{requests:.1f} requests/s, {examples:.0f} examples/s answered", loc="left"
    )
    axes.legend(frameon=False)


def _draw_over_time(axes, outcome: LoadOutcome) -> None:
    edges = np.linspace(0, outcome.load.seconds, _PERIODS + 1)
    period = np.clip(np.digitize(outcome.intended, edges) - 1, 0, _PERIODS - 1)
    middles = (edges[:-1] + edges[1:]) / 2
    for percentile, color in ((50, _BLUE), (99, _RED)):
        values = [
            np.percentile(outcome.latency[chosen], percentile) * 1e3
            if (chosen := outcome.answered & (period == i)).any()
            else np.nan
            for i in range(_PERIODS)
        ]
        axes.plot(middles, values, color=color, label=f"p{percentile}")
    failed = outcome.intended[~outcome.answered]
    if len(failed):
        axes.plot(
            failed,
            np.zeros(len(failed)),
            "x",
            color=_GREY,
            label="failed",
            clip_on=False,
        )
    axes.set(xlabel="intended time, s", ylabel="latency, ms", ylim=(0, None))
    axes.legend(frameon=False)
