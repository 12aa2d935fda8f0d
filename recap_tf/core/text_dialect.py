r"""How a file of rows of text is written: delimiter, line ends, quotation marks.

What is not set is read off the first megabyte:

- The delimiter is the one of comma, tab, semicolon that the first line has most of.
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
from recap_tf.core.quote_scan import Quotes, record_end, scan_quotes

MISSING_IN_LOGS = tuple(pyarrow.csv.ConvertOptions().null_values)
"""What is no value in a log: an empty field, NA, N/A, NaN, nan, null, NULL, ..."""

MISSING_IN_EDGES = ("",)
"""In a graph the gene nan, the country NA and the user null are names."""

_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}
UTF8_BOM = b"\xef\xbb\xbf"
# So many times more marks fit than do not, in a file that is quoted.
_MOSTLY = 10


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
    delimiter = _delimiter(head.split(new_line, 1)[0])
    if settings.quoting == "none":
        return TextDialect(delimiter=delimiter, new_line=new_line, quoted=False)
    if settings.quoting == "fields":
        return TextDialect(delimiter=delimiter, new_line=new_line, line_breaks=True)
    # A last line that is cut off says nothing.
    body = head if whole else head[: head.rfind(new_line) + 1] or head
    quotes = scan_quotes(np.frombuffer(body, np.uint8), ord(delimiter))
    if (
        quotes.open_at is not None
        and not whole
        and not _is_regular(body, delimiter, new_line)
    ):
        end = record_end(bytearray(body), len(body), quotes, new_line)
        body = body[:end]
        quotes = scan_quotes(np.frombuffer(body, np.uint8), ord(delimiter))
    spans = quotes.with_line_breaks(_places(body, new_line))
    quoted = _is_quoted(body, new_line, delimiter, quotes, spans)
    return TextDialect(
        delimiter=delimiter,
        new_line=new_line,
        quoted=quoted,
        line_breaks=quoted and len(spans) > 0 and not quotes.strays,
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


def _delimiter(line: bytes) -> str:
    outside = re.sub(rb'"[^"]*"', b"", line)
    for text in (outside, line):
        counts = {mark: text.count(mark.encode()) for mark in ",\t;"}
        if any(counts.values()):
            return max(counts, key=counts.get)
    return ","


def _is_quoted(
    body: bytes, new_line: bytes, delimiter: str, quotes: Quotes, spans: np.ndarray
) -> bool:
    is_tab = delimiter == "\t"
    if not len(quotes.opens) and quotes.open_at is None:
        return not is_tab
    regular = _is_regular(body, delimiter, new_line)
    odd = len(quotes.strays) + (quotes.open_at is not None)
    # Of lines that are rows by themselves, none should be within a field.
    odd += len(spans) if regular else 0
    sound = len(quotes.opens) - odd
    if not is_tab:
        return not (regular and odd and sound <= odd)
    odd += quotes.literals
    if sound <= _MOSTLY * odd:
        return False
    return not regular or _quoted_as_a_whole(_lines(body, new_line), b"\t")


def _quoted_as_a_whole(lines: list[bytes], delimiter: bytes) -> bool:
    rows = [line.split(delimiter) for line in lines]
    values = [field for row in rows for field in row if field.startswith(b'"')]
    if all(b'"' in value[1:-1] for value in values):
        return True
    # The first line may be a header without marks.
    for column in zip(*(rows[1:] or rows), strict=True):
        given = [field for field in column if field]
        marked = sum(len(f) > 1 and f[:1] == f[-1:] == b'"' for f in given)
        if marked and marked > _MOSTLY * (len(given) - marked):
            return True
    return False


def _is_regular(body: bytes, delimiter: str, new_line: bytes) -> bool:
    """Whether all lines have as many fields, at least 2, if no mark has a meaning."""
    counts = {line.count(delimiter.encode()) for line in _lines(body, new_line)}
    return len(counts) == 1 and counts != {0}


def _lines(body: bytes, new_line: bytes) -> list[bytes]:
    return [line for line in body.split(new_line) if line.strip(b"\r")]


def _places(block: bytes, letter: bytes) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(block, np.uint8) == letter[0])
