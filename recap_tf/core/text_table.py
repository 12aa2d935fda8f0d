"""Tables in a terminal."""

from collections.abc import Sequence


def aligned(rows: Sequence[Sequence[str]], left: int) -> str:
    """One line per row, its cells in columns two spaces apart.

    [["set", "rce"], ["a", "12"]] -> "set  rce\\na     12"

    Args:
        rows: of the same number of cells.
        left: this many first columns are flush left, the others right.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
