"""A block of CSV records -> a table of texts, or one line that names the row."""

from collections.abc import Callable, Sequence
from typing import NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv

from recap_tf.core.command import UserError
from recap_tf.core.text_files.quote_scan import Quotes, are_whole_rows, record_end
from recap_tf.core.text_files.text_dialect import (
    TextDialect,
    TextSettings,
    convert_options,
)
from recap_tf.core.values.text_bytes import buffers

_SHOWN = 60
_REMEDY = "--quoting none reads quotation marks as letters, --quoting fields as marks"


class TextParser:
    """Parses the blocks of one file, and refuses what was not meant so.

    Rows that a quotation mark swallowed are refused: it is never closed; its field
    goes on behind the closing mark and spans lines; or, in a file whose fields spanned
    no lines so far, each of the lines is a row by itself. So is a field that is longer
    than allowed.

    Args:
        path: for messages.
        dialect: how the file is written.
        settings: what the user said about it.
        warn: is told, once, of a mark that does not fit but took no line away.

    Attributes:
        names: of the columns; empty until they are known.
    """

    def __init__(
        self,
        path: str,
        dialect: TextDialect,
        settings: TextSettings,
        warn: Callable[[str], None],
    ):
        self.path, self.dialect, self._settings = path, dialect, settings
        self.names: list[str] = []
        self._warn: Callable[[str], None] | None = warn
        self._spans_lines = dialect.line_breaks

    def header(self, record: bytes) -> list[str]:
        """The fields of the first record."""
        try:
            return self._read(record).column_names
        except UnicodeError as error:
            raise UserError(
                f"{self.path}: the first line is no UTF-8 text. Save the file as UTF-8."
            ) from error

    def table(
        self,
        block: memoryview,
        quotes: Quotes | None,
        columns: Sequence[str],
        row: int,
    ) -> pa.Table:
        """The texts of some columns, in one piece each.

        Args:
            block: whole records.
            quotes: where the quoted fields lie; None if there is no mark.
            columns: at least one.
            row: number of the first record, for messages.

        Raises:
            UserError: it cannot be read, or a check failed.
        """
        checked = quotes is not None and self._settings.quoting == "auto"
        convert = convert_options(self.names, columns, self._settings.missing)
        try:
            table = self._read(block, convert)
        except pa.ArrowInvalid as error:
            if checked:
                self._check_quotes(block, quotes, row)
            self._explain(block, row, error)
        if checked:
            new_line = self.dialect.new_line
            lines = len(_places(block, new_line)) + (bytes(block[-1:]) != new_line)
            # As many rows as lines, and every mark in its place: the usual case.
            odd = quotes.strays or quotes.open_at is not None
            if odd or lines != table.num_rows:
                self._check_quotes(block, quotes, row)
        self._check_lengths(table, row)
        return table

    def _read(self, block, convert=None, on_invalid_row=None, **options) -> pa.Table:
        # In one piece: Arrow need not look for the ends of records, as we did.
        read = pyarrow.csv.ReadOptions(block_size=len(block) + 1, **options)
        if self.names:
            read.column_names = self.names
        parse = pyarrow.csv.ParseOptions(
            delimiter=self.dialect.delimiter,
            quote_char='"' if self.dialect.quoted else False,
        )
        if on_invalid_row is not None:
            parse.invalid_row_handler = on_invalid_row
        source = pa.BufferReader(pa.py_buffer(block))
        return pyarrow.csv.read_csv(source, read, parse, convert)

    def _explain(self, block: memoryview, row: int, error: Exception) -> NoReturn:
        """Raises UserError with the row that Arrow could not read."""
        invalid = []

        def keep(row: pyarrow.csv.InvalidRow) -> str:
            invalid.append(row)
            return "skip"

        types = dict.fromkeys(self.names, pa.binary())
        convert = pyarrow.csv.ConvertOptions(column_types=types)
        # Threads do not know the numbers of their rows.
        table = self._read(block, convert, keep, use_threads=False)
        if invalid:
            first = invalid[0]
            raise UserError(
                f"{self.path}, row {row + first.number - 1} has {first.actual_columns} "
                f"fields, not {first.expected_columns}: {first.text[:_SHOWN]!r}"
            ) from error
        for name in table.column_names:
            for index, value in enumerate(table[name].to_pylist()):
                try:
                    value.decode()
                except UnicodeError:
                    raise UserError(
                        f"{self.path}, row {row + index}: column {name!r} is no UTF-8 "
                        f"text: {value[:_SHOWN]!r}. Save the file as UTF-8."
                    ) from error
        raise error

    def _check_quotes(self, block: memoryview, quotes: Quotes, row: int) -> None:
        if quotes.open_at is not None and quotes.open_at < len(block):
            what = f"is not closed within {len(block) - quotes.open_at:,} bytes"
            self._refuse(block, quotes, quotes.open_at, row, what)
        new_line = self.dialect.new_line
        spans = quotes.with_line_breaks(_places(block, new_line))
        for field in quotes.stray_fields().tolist():
            opened = int(quotes.opens[field])
            if field in spans:
                what = "spans lines and goes on behind its closing mark"
                self._refuse(block, quotes, opened, row, what)
            if self._warn is not None:
                place = self._place(block, quotes, opened, row)
                self._warn(
                    f"warning: {place} goes on behind its closing quotation mark; the "
                    f"marks are left out there. {_REMEDY}."
                )
                self._warn = None
        if self._spans_lines or not len(spans):
            return
        delimiter, text = self.dialect.delimiter.encode(), bytes(block)
        for field in spans.tolist():
            opened, closed = int(quotes.opens[field]), int(quotes.closes[field])
            start = text.rfind(new_line, 0, opened) + 1
            end = text.find(new_line, closed)
            lines = text[start : end if end >= 0 else len(text)].split(new_line)
            if are_whole_rows(lines, delimiter, len(self.names)):
                what = "spans lines that are rows by themselves"
                self._refuse(block, quotes, opened, row, what)
        self._spans_lines = True

    def _check_lengths(self, table: pa.Table, row: int) -> None:
        longest = self._settings.longest_field
        for name in table.column_names:
            offsets, _ = buffers(table[name].chunk(0))
            # No field is longer than all of them together.
            if offsets[-1] - offsets[0] <= longest:
                continue
            lengths = np.diff(offsets)
            if lengths.max() > longest:
                raise UserError(
                    f"{self.path}, row {row + int(lengths.argmax())}: column {name!r} "
                    f"holds {lengths.max():,} bytes, more than --longest-field "
                    f"{longest:,}. {_REMEDY}."
                )

    def _refuse(
        self, block: memoryview, quotes: Quotes, place: int, row: int, what: str
    ) -> NoReturn:
        where = self._place(block, quotes, place, row)
        raise UserError(f"{where} {what}. {_REMEDY}.")

    def _place(self, block: memoryview, quotes: Quotes, place: int, row: int) -> str:
        """Names the file, the row and the beginning of the field at `place`."""
        start = record_end(bytearray(block), place, quotes, self.dialect.new_line)
        if start:
            convert = convert_options(self.names, self.names[:1], ())
            row += self._read(block[:start], convert).num_rows
        text = bytes(block[place : place + _SHOWN]).decode(errors="replace")
        return f"{self.path}, row {row}: the field {text.splitlines()[0]}..."


def _places(block: memoryview, letter: bytes) -> np.ndarray:
    return np.flatnonzero(np.frombuffer(block, np.uint8) == letter[0])
