"""Rows of a CSV or TSV file, block by block, typed where nothing is lost by it."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO, NoReturn

import numpy as np
import pyarrow as pa
import pyarrow.csv

from recap_tf.core.command import UserError, say
from recap_tf.core.quote_scan import Quotes, are_whole_rows, record_end, scan_quotes
from recap_tf.core.text_blocks import ahead, read_into, whole_records
from recap_tf.core.text_bytes import buffers
from recap_tf.core.text_columns import guess_kind, typed
from recap_tf.core.text_dialect import (
    UTF8_BOM,
    TextSettings,
    convert_options,
    detect_dialect,
)

BLOCK_BYTES = 4 << 20
_HEAD_BYTES = 1 << 20
_SHOWN = 60
_REMEDY = "--quoting none reads quotation marks as letters, --quoting fields as marks"

OpenStream = Callable[[], contextlib.AbstractContextManager[BinaryIO]]


class TextRows:
    """The rows of a file of text; memory is bounded by a block and a record.

    Every block is read as text. A column is then typed if each of its values in the
    block is of the kind that the file's first megabyte shows; where one is not, the
    column is text from there on, and `kinds` says so. An integer is typed only if its
    shortest text stood in the file, so a cast gives that text back.

    Attributes:
        names: of the columns, in order.
        kinds: name -> "text", "integer", "number", "boolean" or "time".
        row_bytes: of a row, on average in the first megabyte.
        dialect: how the file is written.

    Args:
        path: for messages.
        open_stream: opens the file's bytes, unpacked.
        settings: how they are read.
        names: of the columns, where the first line does not say them.
        warn: is told what is odd but can be read.

    Raises:
        UserError: the file cannot be read; here, or later, with the row.
    """

    def __init__(
        self,
        path: str,
        open_stream: OpenStream,
        settings: TextSettings,
        *,
        names: Sequence[str] | None = None,
        warn: Callable[[str], None] = say,
    ):
        self.path = path
        self._open, self._settings, self._warn = open_stream, settings, warn
        with open_stream() as source:
            head = bytearray(_HEAD_BYTES)
            head = bytes(head[: read_into(source, memoryview(head))])
        self._skip = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
        self._skip += len(head) - self._skip - len(head[self._skip :].lstrip(b"\r\n"))
        self.dialect = detect_dialect(
            head[self._skip :], settings, whole=len(head) < _HEAD_BYTES, path=path
        )
        self._spans_lines = self.dialect.line_breaks
        self.names: list[str] = []
        self._set_names(head[self._skip :], names)
        self.kinds = dict.fromkeys(self.names, "text")
        self.row_bytes: float | None = None
        for _, table, size in self._tables(self.names, _HEAD_BYTES):
            self.kinds = {name: guess_kind(_one(table[name])) for name in self.names}
            self.row_bytes = size / table.num_rows
            break

    def chunks(
        self, columns: Iterable[str], as_text: Iterable[str] = ()
    ) -> Iterator[tuple[int, pa.Table]]:
        """Yields (number of the chunk's first row, counted from 1; its rows).

        Args:
            columns: at least one.
            as_text: columns that are not typed, since spellings matter: of ids.
        """
        columns, as_text = list(dict.fromkeys(columns)), set(as_text)
        for row, table, _ in self._tables(columns, BLOCK_BYTES):
            arrays = {}
            for name in columns:
                arrays[name] = _one(table[name])
                if name not in as_text:
                    arrays[name] = self._typed(name, arrays[name])
            yield row, pa.table(arrays)

    def read(self, as_text: Iterable[str] = ()) -> pa.Table:
        """All columns and rows, each column of one type."""
        as_text = set(as_text)
        tables = [table for _, table, _ in self._tables(self.names, BLOCK_BYTES)]
        if not tables:
            return pa.table({name: pa.array([], pa.string()) for name in self.names})
        table = pa.concat_tables(tables)
        return pa.table(
            {
                name: texts if name in as_text else self._typed(name, texts)
                for name in self.names
                for texts in [_one(table[name])]
            }
        )

    def settle(self, columns: Iterable[str]) -> dict[str, str]:
        """Kinds of `columns` after all rows were seen: what a whole file can be."""
        columns = [name for name in columns if self.kinds[name] != "text"]
        if columns:
            for _ in self.chunks(columns):
                pass
        return self.kinds

    def _typed(self, name: str, texts: pa.Array) -> pa.Array:
        values = typed(texts, self.kinds[name])
        if values is None:
            self.kinds[name] = "text"
            return texts
        return values

    def _set_names(self, head: bytes, names: Sequence[str] | None) -> None:
        first = self._first_record(head)
        header = self._read(first).column_names
        if names is None:
            repeated = [name for name in header if header.count(name) > 1]
            if repeated:
                raise UserError(f"{self.path} has two columns named {repeated[0]!r}.")
            self._skip += len(first)
        elif len(names) != len(header):
            raise UserError(
                f"{self.path} has {len(header)} columns; to name them takes as many. "
                f"Received: {', '.join(names)}"
            )
        self.names = header if names is None else list(names)

    def _first_record(self, head: bytes) -> bytes:
        if not head:
            raise UserError(f"{self.path} has no rows.")
        new_line, end = self.dialect.new_line, head.find(self.dialect.new_line)
        if self.dialect.quoted:
            block = np.frombuffer(head, np.uint8)
            quotes = scan_quotes(block, ord(self.dialect.delimiter))
            while end >= 0 and (field := quotes.holds(end)) is not None:
                end = head.find(new_line, int(quotes.closes[field]))
        if end < 0 and len(head) + self._skip == _HEAD_BYTES:
            raise UserError(
                f"{self.path} cannot be read: its first line does not end within "
                f"{_HEAD_BYTES:,} bytes."
            )
        return head[: end + 1] if end >= 0 else head + new_line

    def _tables(
        self, columns: Sequence[str], size: int
    ) -> Iterator[tuple[int, pa.Table, int]]:
        """Yields (number of the first row, texts of the columns, the block's bytes)."""
        convert = convert_options(self.names, columns, self._settings.missing)
        row = 1
        with contextlib.ExitStack() as stack:
            source = stack.enter_context(self._open())
            read_into(source, memoryview(bytearray(self._skip)))
            blocks = whole_records(
                source, self.dialect, size, self._settings.longest_field
            )
            # Closed before the stream is.
            blocks = stack.enter_context(contextlib.closing(ahead(blocks)))
            for block, quotes in blocks:
                table = self._parse(block, quotes, convert, row)
                self._check_lengths(table, row)
                if table.num_rows:
                    yield row, table, len(block)
                row += table.num_rows

    def _parse(
        self, block: memoryview, quotes: Quotes | None, convert, row: int
    ) -> pa.Table:
        auto = quotes is not None and self._settings.quoting == "auto"
        try:
            table = self._read(block, convert)
        except pa.ArrowInvalid as error:
            if auto:
                self._check_quotes(block, quotes, row)
            self._explain(block, row, error)
        if auto:
            lines = _count(block, self.dialect.new_line)
            lines += bytes(block[-1:]) != self.dialect.new_line
            # As many rows as lines, and every mark in its place: the usual case.
            odd = quotes.strays or quotes.open_at is not None
            if odd or lines != table.num_rows:
                self._check_quotes(block, quotes, row)
        return table

    def _read(self, block, convert=None, handler=None, **options) -> pa.Table:
        source = pa.BufferReader(pa.py_buffer(block))
        size = len(block) + 1
        read = pyarrow.csv.ReadOptions(block_size=size, **options)
        if self.names:
            read.column_names = self.names
        parse = self.dialect.parse_options()
        if handler is not None:
            parse.invalid_row_handler = handler
        return pyarrow.csv.read_csv(source, read, parse, convert)

    def _explain(self, block: memoryview, row: int, error: Exception) -> NoReturn:
        """Raises UserError with the row that Arrow could not read."""
        wrong = []

        def keep(invalid: pyarrow.csv.InvalidRow) -> str:
            wrong.append(invalid)
            return "skip"

        types = dict.fromkeys(self.names, pa.binary())
        # Threads do not know the numbers of their rows.
        table = self._read(
            block,
            pyarrow.csv.ConvertOptions(column_types=types),
            handler=keep,
            use_threads=False,
        )
        if wrong:
            first = wrong[0]
            raise UserError(
                f"{self.path}, row {row + first.number - 1} has {first.actual_columns} "
                f"fields, not {first.expected_columns}: {first.text[:_SHOWN]!r}"
            ) from error
        for name in table.column_names:
            for index, value in enumerate(table[name].to_pylist()):
                try:
                    (value or b"").decode()
                except UnicodeError:
                    raise UserError(
                        f"{self.path}, row {row + index}: column {name!r} is no UTF-8 "
                        f"text: {value[:_SHOWN]!r}. Save the file as UTF-8."
                    ) from error
        raise error

    def _check_quotes(self, block: memoryview, quotes: Quotes, row: int) -> None:
        """Refuses fields that lines were taken into by mistake."""
        new_line = self.dialect.new_line
        if quotes.open_at is not None and quotes.open_at < len(block):
            self._refuse(block, quotes, quotes.open_at, row, "is not closed")
        places = np.flatnonzero(np.frombuffer(block, np.uint8) == new_line[0])
        spans = quotes.with_line_breaks(places)
        for stray in quotes.strays:
            field = int(np.searchsorted(quotes.opens, stray)) - 1
            opened = int(quotes.opens[field])
            if field in spans:
                what = "spans lines and goes on behind its closing mark"
                self._refuse(block, quotes, opened, row, what)
            if self._warn is not None:
                place = self._place(block, quotes, opened, row)
                self._warn(
                    f"warning: {place} goes on behind its closing quotation mark; the "
                    f"marks are left out there. {_REMEDY}"
                )
                self._warn = None
        if self._spans_lines:
            return
        delimiter = self.dialect.delimiter.encode()
        text = bytes(block) if len(spans) else b""
        for field in spans.tolist():
            if are_whole_rows(
                text, quotes, field, delimiter, new_line, len(self.names)
            ):
                what = "spans lines that are rows by themselves"
                self._refuse(block, quotes, int(quotes.opens[field]), row, what)
        self._spans_lines = len(spans) > 0

    def _refuse(self, block, quotes: Quotes, place: int, row: int, what) -> NoReturn:
        where = self._place(block, quotes, place, row)
        raise UserError(f"{where} {what}. {_REMEDY}.")

    def _place(self, block, quotes: Quotes, place: int, row: int) -> str:
        """Names the file, the row and the beginning of the field at `place`."""
        start = record_end(bytearray(block), place, quotes, self.dialect.new_line)
        if start:
            convert = convert_options(self.names, self.names[:1], ())
            row += self._read(block[:start], convert).num_rows
        text = bytes(block[place : place + _SHOWN]).decode(errors="replace")
        return f"{self.path}, row {row}: the field {text.splitlines()[0]}..."

    def _check_lengths(self, table: pa.Table, row: int) -> None:
        longest = self._settings.longest_field
        for name in table.column_names:
            offsets, _ = buffers(_one(table[name]))
            if offsets[-1] - offsets[0] <= longest:
                continue
            lengths = np.diff(offsets)
            if lengths.max() > longest:
                raise UserError(
                    f"{self.path}, row {row + int(lengths.argmax())}: column {name!r} "
                    f"holds {lengths.max():,} bytes, more than --longest-field "
                    f"{longest:,}. {_REMEDY}."
                )


def _one(column: pa.ChunkedArray) -> pa.Array:
    # A block's columns are of one piece, which `combine_chunks` would copy.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def _count(block: memoryview, letter: bytes) -> int:
    return int(np.count_nonzero(np.frombuffer(block, np.uint8) == letter[0]))
