"""The table of what TF Serving does and what `serving.server` does, made of tests.

    python tests/differences.py

writes docs/tf_serving_differences.md of the tests in tests/serving/differences, each of
which says by `row` what it holds the server to.
"""

import ast
import dataclasses
import pathlib
import re
from collections.abc import Callable, Iterator

_HERE = pathlib.Path(__file__).parent
TESTS = _HERE / "serving" / "differences"
PAGE = _HERE.parent / "docs" / "tf_serving_differences.md"
SAME = "the same"

_HEAD = """# TF Serving and `serving.server`

Made by `python tests/differences.py` of the tests in `tests/serving/differences`: each
asks a server in a process of its own over real sockets. Rows are numbered as in the
comparison of the two sources that they come from: A loses service or refuses what works
with TF Serving, B is what a client can tell, C is batching and metrics.
"""
_SECTIONS = {
    "Deliberately different": (
        "What to know when moving between the two.",
        lambda entry: entry.here != SAME,
    ),
    "The same": (
        "Held to what TF Serving does.",
        lambda entry: entry.here == SAME,
    ),
}


def row(name: str, *, tf_serving: str, here: str = SAME) -> Callable:
    """Says which row of the table a test stands for.

    Args:
        name: of the row, such as A10.
        tf_serving: what TF Serving does.
        here: what `serving.server` does, where it differs on purpose.
    """
    del name, tf_serving, here  # They are read from the source.
    return lambda test: test


@dataclasses.dataclass(frozen=True)
class Entry:
    """One row of the table."""

    name: str
    tf_serving: str
    here: str
    test: str


def entries() -> list[Entry]:
    """All rows, in their order."""
    collected = [
        entry for path in sorted(TESTS.glob("test_*.py")) for entry in _entries(path)
    ]
    return sorted(collected, key=lambda entry: _place(entry.name))


def _entries(path: pathlib.Path) -> Iterator[Entry]:
    for node in ast.walk(ast.parse(path.read_text())):
        for call in getattr(node, "decorator_list", ()):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "row":
                given = {
                    keyword.arg: ast.literal_eval(keyword.value)
                    for keyword in call.keywords
                }
                name = ast.literal_eval(call.args[0])
                yield Entry(
                    name,
                    given["tf_serving"],
                    given.get("here", SAME),
                    f"{path.stem}.{node.name}",
                )


def _place(name: str) -> tuple:
    letter, number = re.fullmatch(r"([A-Z]?)(.*)", name).groups()
    return letter, int(number) if number.isdecimal() else 0, number


def page() -> str:
    """The page, as Markdown."""
    parts = [_HEAD]
    for title, (text, belongs) in _SECTIONS.items():
        lines = [entry for entry in entries() if belongs(entry)]
        parts.append(f"## {title}\n\n{text}\n\n{_table(lines)}\n")
    return "\n".join(parts)


def _table(lines: list[Entry]) -> str:
    head = ["| Row | TF Serving | `serving.server` | Test |", "|---|---|---|---|"]
    cells = (
        [entry.name, entry.tf_serving, entry.here, f"`{entry.test}`"] for entry in lines
    )
    return "\n".join(
        head + [f"| {' | '.join(map(_escaped, four))} |" for four in cells]
    )


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|")


if __name__ == "__main__":
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(f"Wrote {PAGE}")
