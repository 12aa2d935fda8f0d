r"""How a file of rows of text is written: delimiter, line ends, quotation marks.

What is not set is read off the first megabyte:

- The delimiter is the one of comma, tab, semicolon that the first line has most of;
  one that the following lines have as many of goes first, and the tab in *.tsv.
- A line ends with \n, with or without \r; or with \r alone where there is no \n.
- CSV fields may be quoted. They are not if every line has as many fields as the first
  when no mark has a meaning, and most marks do not fit: a field goes on behind its
  closing mark, is never closed, or spans such lines.
- TSV fields are not quoted, since "Heroes" is a title with its marks, unless the
  file's are as a whole: the marks fit, and the values of some column are quoted, or
  every quoted field holds what must be (a tab, a mark, a line break).
"""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.csv

from recap_tf.core.checks import check_choice, check_range
from recap_tf.core.command import UserError
from recap_tf.core.text_files.quote_scan import record_end, scan_quotes

MISSING_IN_LOGS = tuple(pyarrow.csv.ConvertOptions().null_values)
"""What is no value in a log: an empty field, NA, N/A, NaN, nan, null, NULL, ..."""

MISSING_IN_EDGES = ("",)
"""In a graph the gene nan, the country NA and the user null are names."""

_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
UTF8_BOM = b"\xef\xbb\xbf"
# So many times more marks fit than do not, in a file that is quoted.
_MOSTLY = 10
_FIRST_LINES = 200


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextSettings:
    """What the user may say about files of text.

    Args:
        quoting: "auto"; "none": a mark is a letter; "fields": fields may be quoted, and
            may span lines.
        missing: texts that are no value.
        longest_field: bytes; a longer field is refused, since it is more likely a mark
            that was never closed.
    """

    quoting: str = "auto"
    missing: Sequence[str] = MISSING_IN_LOGS
    longest_field: int = 1 << 20

    def __post_init__(self):
        check_choice("--quoting", self.quoting, ["auto", "none", "fields"])
        check_range("--longest-field", self.longest_field, at_least=1)


@dataclasses.dataclass(frozen=True, kw_only=True)
class TextDialect:
    """How one file is written.

    Args:
        delimiter: between fields.
        new_line: the last byte of a line.
        quoted: whether a mark at a field's beginning opens a quoted field.
        line_breaks: whether quoted fields are known to span lines.
    """

    delimiter: str
    new_line: bytes = b"\n"
    quoted: bool = True
    line_breaks: bool = False


def detect_dialect(
    head: bytes, settings: TextSettings, *, whole: bool, path: str
) -> TextDialect:
    """Reads a file's dialect off its beginning.

    Args:
        head: its first bytes, without a byte order mark.
        settings: what is known already.
        whole: whether that is all of it.
        path: for messages.

    Raises:
        UserError: the file is not UTF-8.
    """
    for mark, encoding in _BOMS.items():
        if head.startswith(mark):
            raise UserError(f"{path} is in {encoding}; save it as UTF-8.")
    new_line = b"\n" if b"\n" in head or b"\r" not in head else b"\r"
    delimiter = _delimiter(head, new_line, path)
    if settings.quoting == "none":
        return TextDialect(delimiter=delimiter, new_line=new_line, quoted=False)
    if settings.quoting == "fields":
        return TextDialect(delimiter=delimiter, new_line=new_line, line_breaks=True)
    # A last line that is cut off says nothing.
    body = head if whole else head[: head.rfind(new_line) + 1] or head
    part = _Head(body, delimiter.encode(), new_line)
    if part.quotes.open_at is not None and not whole and not part.regular:
        # It ends within a field of several lines.
        end = record_end(bytearray(body), len(body), part.quotes, new_line)
        part = _Head(body[:end], delimiter.encode(), new_line)
    quoted = part.is_quoted()
    return TextDialect(
        delimiter=delimiter,
        new_line=new_line,
        quoted=quoted,
        line_breaks=quoted and len(part.spans) > 0 and not part.quotes.strays,
    )


def convert_options(
    names: Sequence[str], columns: Sequence[str], missing: Sequence[str]
) -> pyarrow.csv.ConvertOptions:
    """Every column as text, so that no value is changed by a guess.

    Args:
        names: of the file's columns.
        columns: those to read.
        missing: texts that are no value.
    """
    return pyarrow.csv.ConvertOptions(
        column_types=dict.fromkeys(names, pa.string()),
        include_columns=columns,
        null_values=list(missing),
        strings_can_be_null=True,
    )


def _delimiter(head: bytes, new_line: bytes, path: str) -> str:
    lines = head.split(new_line, _FIRST_LINES)
    # The last one may be cut off, or be all the rest.
    lines = [line for line in lines[:-1] or lines if line.strip(b"\r")]
    lines = lines or [b""]
    if path.removesuffix(".gz").endswith(".tsv") and b"\t" in lines[0]:
        return "\t"
    outside = re.sub(rb'"[^"]*"', b"", lines[0])
    for first in (outside, lines[0]):
        counts = {mark: first.count(mark.encode()) for mark in ",\t;"}
        counts = {mark: count for mark, count in counts.items() if count}
        if counts:
            # A first row may hold a title with more commas than the file has columns.
            regular = [
                mark
                for mark in counts
                if len({line.count(mark.encode()) for line in lines}) == 1
            ]
            return max(regular or counts, key=counts.get)
    return ","


class _Head:
    """Whole lines at a file's beginning, and what their marks are if they are any.

    Attributes:
        quotes: the quoted fields.
        spans: numbers of those with line breaks in them.
        regular: whether all lines have as many fields, at least 2, if no mark has a
            meaning.
    """

    def __init__(self, body: bytes, delimiter: bytes, new_line: bytes):
        self._body, self._delimiter, self._new_line = body, delimiter, new_line
        letters = np.frombuffer(body, np.uint8)
        self.quotes = scan_quotes(letters, ord(delimiter))
        self.spans = self.quotes.with_line_breaks(
            np.flatnonzero(letters == new_line[0])
        )
        self.regular = self._is_regular(body)

    def is_quoted(self) -> bool:
        quotes, is_tab = self.quotes, self._delimiter == b"\t"
        if not len(quotes.opens) and quotes.open_at is None:
            return not is_tab
        odd = set(quotes.stray_fields().tolist())
        # Of lines that are rows by themselves, none should be within a field.
        odd |= set(self.spans.tolist()) if self.regular else set()
        misfits = len(odd) + (quotes.open_at is not None)
        sound = len(quotes.opens) - len(odd)
        if not is_tab:
            return not (self.regular and misfits and sound <= misfits)
        if sound <= _MOSTLY * (misfits + quotes.literals):
            return False
        masked = self._masked()
        if not self._is_regular(masked):
            return False
        return not self.regular or self._must_be() or self._some_column(masked)

    def _must_be(self) -> bool:
        """Whether every quoted field holds a delimiter, a mark or a line break."""
        special = re.compile(rb'["\r\n]|' + re.escape(self._delimiter))
        return all(
            special.search(self._body, opened + 1, closed)
            for opened, closed in zip(
                self.quotes.opens.tolist(), self.quotes.closes.tolist(), strict=True
            )
        )

    def _some_column(self, masked: bytes) -> bool:
        """Whether nearly all values of some column are quoted."""
        rows = [line.split(self._delimiter) for line in self._lines(masked)]
        # The first line may be a header without marks.
        for column in zip(*(rows[1:] or rows), strict=True):
            given = [field for field in column if field]
            marked = sum(field.startswith(b'"') for field in given)
            if marked and marked > _MOSTLY * (len(given) - marked):
                return True
        return False

    def _masked(self) -> bytes:
        """The lines, with marks in place of all that stands in quoted fields."""
        steps = np.zeros(len(self._body) + 1, np.int8)
        steps[self.quotes.opens] += 1
        steps[self.quotes.closes + 1] -= 1
        inside = np.cumsum(steps[:-1], dtype=np.int8) > 0
        letters = np.frombuffer(self._body, np.uint8)
        return np.where(inside, np.uint8(ord('"')), letters).tobytes()

    def _is_regular(self, body: bytes) -> bool:
        counts = {line.count(self._delimiter) for line in self._lines(body)}
        return len(counts) == 1 and counts != {0}

    def _lines(self, body: bytes) -> list[bytes]:
        lines = (line.rstrip(b"\r") for line in body.split(self._new_line))
        return [line for line in lines if line]
