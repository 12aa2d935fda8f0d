"""Rows of a CSV or TSV file, block by block, typed where nothing is lost by it."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import BinaryIO

import numpy as np
import pyarrow as pa

from recap_tf.core.command import UserError, say
from recap_tf.core.text_files.quote_scan import scan_quotes
from recap_tf.core.text_files.text_blocks import ahead, read_into, whole_records
from recap_tf.core.text_files.text_columns import guess_kind, typed
from recap_tf.core.text_files.text_dialect import UTF8_BOM, TextSettings, detect_dialect
from recap_tf.core.text_files.text_parser import TextParser

BLOCK_BYTES = 4 << 20
_HEAD_BYTES = 1 << 20

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
        self._open, self._settings = open_stream, settings
        with open_stream() as source:
            head = bytearray(_HEAD_BYTES)
            head = bytes(head[: read_into(source, memoryview(head))])
        self._skip = len(UTF8_BOM) if head.startswith(UTF8_BOM) else 0
        self._skip += len(head) - self._skip - len(head[self._skip :].lstrip(b"\r\n"))
        self.dialect = detect_dialect(
            head[self._skip :], settings, whole=len(head) < _HEAD_BYTES, path=path
        )
        self._parser = TextParser(path, self.dialect, settings, warn)
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
        header = self._parser.header(first)
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
        self._parser.names = self.names

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
                table = self._parser.table(block, quotes, columns, row)
                if table.num_rows:
                    yield row, table, len(block)
                row += table.num_rows


def _one(column: pa.ChunkedArray) -> pa.Array:
    # A block's columns are of one piece, which `combine_chunks` would copy.
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()
