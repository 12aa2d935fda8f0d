"""Charts as inline SVG: the one look that all of them have."""

import contextlib
import io
import itertools
import re
import warnings
from collections.abc import Iterator, Sequence

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from recap_tf.report.markup import Markup, element, plain

INK, MUTED, GRID = "#1c2733", "#66727f", "#e3e7eb"
# Ten hues of about the same darkness, told apart in print and by most colour-blind
# readers; no chart relies on the colour alone.
_PALETTE = (
    "#2b6cb0",
    "#c05621",
    "#2f855a",
    "#b83280",
    "#6b46c1",
    "#8a6116",
    "#0f7f8c",
    "#c53030",
    "#4a5a9e",
    "#5f7a1f",
)
_STYLE = {
    # Text stays text: it can be searched, is read aloud, and takes little room.
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9.5,
    # A task's name may hold a dollar sign.
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": "#aab3bd",
    "axes.labelcolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "lines.linewidth": 1.7,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
}
_IDS = re.compile(r'(\bid="|url\(#|href="#)')
_HEAD = re.compile(r"^.*?(?=<svg)", re.DOTALL)
_NOISE = re.compile(r"\s*<metadata>.*?</metadata>|\s*<!--.*?-->", re.DOTALL)
_SIZE = re.compile(r'(<svg[^>]*?) (?:width|height)="[^"]*"')
_numbers = itertools.count()


def task_colors(tasks: Sequence[str]) -> dict[str, str]:
    """Task -> its colour, the same in every chart of a page."""
    return dict(zip(tasks, itertools.cycle(_PALETTE), strict=False))


def dot(color: str | None) -> Markup:
    """A round mark in a task's colour, beside its name."""
    return element("i", style=f"background:{color or INK}")


@contextlib.contextmanager
def axes(width: float, height: float) -> Iterator[Axes]:
    """Axes to draw on, in a figure of `width` x `height` inches."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure((width, height), layout="constrained")
        figure.patch.set_alpha(0.0)
        FigureCanvasSVG(figure)
        yield figure.add_subplot()


def chart(drawn: Axes, title: str, says: str, note: Markup | str | None = None):
    """Finishes a chart: an SVG that says in words what it shows, and its caption.

    Args:
        drawn: axes from `axes`.
        title: what stands above the chart.
        says: what is to be seen, for those who do not see it and those who wonder
            how to read it.
        note: one line below the chart.
    """
    label = element("title", f"{title}. {says}")
    svg = _svg(drawn.figure)
    svg = Markup(svg.replace(">", f' role="img">{label}', 1))
    caption = element(
        "figcaption",
        element("b", title),
        element("span", note) if note else None,
        title=says,
    )
    return element("figure", caption, svg)


def _svg(figure: Figure) -> str:
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # The browser has the glyphs that the font measured with may lack.
        warnings.filterwarnings("ignore", "Glyph .* missing from")
        text = io.StringIO()
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = _NOISE.sub("", _HEAD.sub("", text.getvalue(), count=1))
    for _ in range(2):
        svg = _SIZE.sub(r"\1", svg, count=1)
    # Ids must differ between the charts of one page.
    return _IDS.sub(rf"\1c{next(_numbers)}-", svg).strip()


def label(text: str, longest: int = 28) -> str:
    """The text for an axis: what SVG can hold, shortened in the middle."""
    text = plain(text)
    if len(text) <= longest:
        return text
    half = (longest - 1) // 2
    return f"{text[: longest - 1 - half]}…{text[-half:]}"


def percent(share: float) -> str:
    """A probability as short as it can be said: 12 %, 0.3 %, 0.0002 %."""
    shown = np.format_float_positional(
        100 * share, precision=3, fractional=False, trim="-"
    )
    return f"{shown} %"


def show_probabilities(axis, low: float, high: float, *, log_odds: bool) -> None:
    """Puts ticks at round probabilities on an axis of log odds, or of logarithms."""
    rounds = [10.0**-k for k in range(9, 0, -1)]
    if log_odds:
        rounds += [0.3, 0.5, 0.7, 0.9, 0.99, 0.999]
        place = [np.log(p / (1 - p)) for p in rounds]
    else:
        rounds += [0.03, 0.3, 1.0]
        place = [np.log10(p) for p in rounds]
    shown: list[tuple[float, float]] = []
    for x, p in sorted(zip(place, rounds, strict=True)):
        far = not shown or x - shown[-1][0] >= (high - low) / 4.5
        if low <= x <= high and far:
            shown.append((x, p))
    axis.set_ticks([x for x, _ in shown], [percent(p) for _, p in shown])
