"""HTML elements with everything in them escaped."""

import html
import math
import re
from collections.abc import Iterable, Sequence

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
NO_VALUE = "no value"


class Markup(str):
    """HTML that is finished: it is not escaped again."""

    __slots__ = ()


Child = str | float | None | Iterable["Child"]


def plain(text: object) -> str:
    """The text without what neither HTML nor SVG can hold."""
    printable = str(text).encode("utf-8", "replace").decode("utf-8")
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", printable)


def escape(child: Child) -> Markup:
    """A child of an element as HTML: text is escaped, None is nothing."""
    if child is None:
        return Markup()
    if isinstance(child, Markup):
        return child
    if isinstance(child, str) or not isinstance(child, Iterable):
        return Markup(html.escape(plain(child), quote=True))
    return Markup("".join(escape(part) for part in child))


def element(name: str, *children: Child, **attributes: object) -> Markup:
    """Makes an element; of attributes, `class_` is "class", `data_set` "data-set".

    An attribute that is None or False is left out, one that is True has no value.
    """
    shown = ""
    for key, value in attributes.items():
        if value is None or value is False:
            continue
        shown += f" {key.rstrip('_').replace('_', '-')}"
        if value is not True:
            shown += f'="{escape(str(value))}"'
    if name in ("meta", "br"):
        return Markup(f"<{name}{shown}>")
    return Markup(f"<{name}{shown}>{escape(children)}</{name}>")


def fold(summary: Child, *children: Child, open_: bool = False) -> Markup:
    """Makes a block that a click on its summary opens."""
    return element("details", element("summary", summary), *children, open=open_)


def table(
    header: Sequence[Child], rows: Iterable[Sequence[Markup]], *, caption: Child = None
) -> Markup:
    """Makes a table. The cells of `rows` come from `text_cell` and `number_cell`.

    A column whose first cell is a number has its head on the right as well.
    """
    rows = list(rows)
    first = rows[0] if rows else ()
    heads = [
        element(
            "th",
            breakable(name),
            scope="col",
            class_="num" if i < len(first) and 'class="num' in first[i] else None,
        )
        for i, name in enumerate(header)
    ]
    return element(
        "div",
        element(
            "table",
            element("caption", caption) if caption else None,
            element("thead", element("tr", heads)),
            element("tbody", [element("tr", row) for row in rows]),
        ),
        class_="scroll",
    )


def breakable(child: Child) -> Markup:
    """The child, which may go on in another line after each of its underscores."""
    return Markup(escape(child).replace("_", "_<wbr>"))


def text_cell(*children: Child, head: bool = False, **attributes: object) -> Markup:
    """Makes a cell of words; `head` for the cell that the row is about."""
    if head:
        shown = [breakable(c) if not isinstance(c, Markup) else c for c in children]
        return element("th", shown, scope="row", **attributes)
    return element("td", *children, **attributes)


def number_cell(
    value: float, error: float | None, form: str, **attributes: object
) -> Markup:
    """Makes a cell with a number and, unless that is None or NaN, its error.

    The unrounded number is its attribute `data-value`; NaN shows as "no value".
    """
    if is_missing(value):
        missing = element("span", NO_VALUE, class_="none")
        return element("td", missing, class_="num", **attributes)
    shown = [form.format(value)]
    if error is not None and not math.isnan(error):
        attributes["data_error"] = repr(float(error))
        shown.append(element("span", " ± " + form.format(error), class_="se"))
    return element(
        "td", shown, class_="num", data_value=repr(float(value)), **attributes
    )


def share_cell(share: float) -> Markup:
    """Makes a cell with a share in per cent and a bar of that length."""
    if is_missing(share):
        return number_cell(share, None, "")
    bar = element("span", class_="bar", style=f"width:{100 * share:.1f}%")
    return element("td", bar, element("span", f"{share:.1%}"), class_="num share")


def is_missing(value: float | None) -> bool:
    """Whether there is no number: None or NaN."""
    return value is None or math.isnan(value)


def with_error(value: float | None, error: float | None, form: str) -> str:
    """Writes a number and its standard error for running text."""
    if is_missing(value):
        return NO_VALUE
    if is_missing(error):
        return form.format(value)
    return f"{form.format(value)} ± {form.format(error)}"
