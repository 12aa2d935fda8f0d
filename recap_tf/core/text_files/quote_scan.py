"""Where the quoted fields of a block of CSV lie, and which marks do not fit.

A mark opens a field only at the field's beginning; within the field two marks are one
that belongs to the value; a single one closes it and must be followed by a delimiter
or the end of the line (RFC 4180). Elsewhere a mark is a letter like others: 7" vinyl.
"""

import dataclasses

import numpy as np

QUOTE, NEW_LINE, RETURN = b'"\n\r'


@dataclasses.dataclass(frozen=True)
class Quotes:
    """The quoted fields of a block that begins at a record's beginning.

    Args:
        opens: (fields,) where their opening marks are.
        closes: (fields,) where their closing marks are.
        open_at: the opening mark of a field that does not end in the block, or None.
        strays: closing marks that something else follows than the field's end.
        literals: how many marks stand within fields that are not quoted.
    """

    opens: np.ndarray
    closes: np.ndarray
    open_at: int | None = None
    strays: tuple[int, ...] = ()
    literals: int = 0

    def holds(self, place: int) -> int | None:
        """Number of the quoted field that the byte at `place` lies in, or None."""
        field = int(np.searchsorted(self.opens, place)) - 1
        return field if field >= 0 and place < self.closes[field] else None

    def with_line_breaks(self, new_lines: np.ndarray) -> np.ndarray:
        """Numbers of the quoted fields that one of the bytes `new_lines` lies in."""
        if not len(self.opens) or not len(new_lines):
            return np.zeros(0, np.int64)
        fields = np.searchsorted(self.opens, new_lines) - 1
        inside = (fields >= 0) & (new_lines < self.closes[fields])
        return np.unique(fields[inside])

    def stray_fields(self) -> np.ndarray:
        """Numbers of the quoted fields that go on behind their closing marks."""
        return np.searchsorted(self.closes, np.array(self.strays, np.int64))


_NONE = np.zeros(0, np.int64)


def scan_quotes(block: np.ndarray, delimiter: int) -> Quotes:
    """Finds the quoted fields.

    Args:
        block: (bytes,) uint8, from the beginning of a record on.
        delimiter: its byte.
    """
    marks = np.flatnonzero(block == QUOTE)
    if not len(marks):
        return Quotes(_NONE, _NONE)
    # In a sound block the marks open and close in turn; two next to each other, of
    # which the first closes, are one mark within a field.
    opens, closes = marks[0::2], marks[1::2]
    open_at = int(opens[-1]) if len(marks) % 2 else None
    doubled = closes[: len(opens) - 1] + 1 == opens[1:]
    if doubled.any():
        opens = opens[np.r_[True, ~doubled]]
        closes = closes[np.r_[~doubled, True][: len(closes)]]
        open_at = None if open_at is None else int(opens[-1])
    opens = opens[: len(closes)]
    if _sound(block, delimiter, opens, closes, open_at):
        return Quotes(opens, closes, open_at)
    return _walk(block, delimiter, marks)


def record_end(
    block: bytearray, size: int, quotes: Quotes | None, new_line: bytes
) -> int:
    """Where the last record that ends within the first `size` bytes ends; 0 if none."""
    limit = size
    if quotes is not None and quotes.open_at is not None:
        limit = quotes.open_at
    while True:
        place = block.rfind(new_line, 0, limit)
        field = None if quotes is None or place < 0 else quotes.holds(place)
        if field is None:
            return place + 1
        limit = int(quotes.opens[field])


def are_whole_rows(lines: list[bytes], delimiter: bytes, columns: int) -> bool:
    """Whether the lines that a quoted field spans are rows if no mark had a meaning.

    A text of several lines has not, line by line, as many delimiters as a row; a field
    that was opened by mistake has swallowed rows that have.
    """
    return columns > 1 and all(line.count(delimiter) + 1 == columns for line in lines)


def _sound(
    block: np.ndarray,
    delimiter: int,
    opens: np.ndarray,
    closes: np.ndarray,
    open_at: int | None,
) -> bool:
    begins = opens if open_at is None else np.append(opens, open_at)
    before = _separates(block[begins - 1], delimiter) | (begins == 0)
    closes = closes[: np.searchsorted(closes, len(block) - 1)]
    return bool(before.all() and _separates(block[closes + 1], delimiter).all())


def _separates(letters: np.ndarray, delimiter: int) -> np.ndarray:
    return (letters == delimiter) | (letters == NEW_LINE) | (letters == RETURN)


def _walk(block: np.ndarray, delimiter: int, marks: np.ndarray) -> Quotes:
    """As `scan_quotes`, mark by mark, where some do not fit."""
    ends = (delimiter, NEW_LINE, RETURN)
    places = marks.tolist()
    before = block[marks - 1].tolist()
    after = block[np.minimum(marks + 1, len(block) - 1)].tolist()
    opens, closes, strays, literals, number = [], [], [], 0, 0
    open_at = None
    while number < len(places):
        if places[number] > 0 and before[number] not in ends:
            literals += 1
            number += 1
            continue
        close = number + 1
        while close + 1 < len(places) and places[close + 1] == places[close] + 1:
            close += 2
        if close >= len(places):
            open_at = places[number]
            break
        opens.append(places[number])
        closes.append(places[close])
        if places[close] + 1 < len(block) and after[close] not in ends:
            strays.append(places[close])
        number = close + 1
    return Quotes(
        np.array(opens, np.int64),
        np.array(closes, np.int64),
        open_at,
        tuple(strays),
        literals,
    )
