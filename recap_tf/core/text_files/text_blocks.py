"""A stream of CSV bytes as blocks of whole records."""

import concurrent.futures
from collections.abc import Iterator
from typing import BinaryIO, TypeVar

import numpy as np

from recap_tf.core.text_files.quote_scan import Quotes, record_end, scan_quotes
from recap_tf.core.text_files.text_dialect import TextDialect

Item = TypeVar("Item")
# No record is longer than so many of the longest fields.
_FIELDS_PER_RECORD = 64


def whole_records(
    source: BinaryIO, dialect: TextDialect, size: int, longest_field: int
) -> Iterator[tuple[memoryview, Quotes | None]]:
    """Yields (block, where its quoted fields lie; None if it has no mark).

    A block holds at least one record and ends with one, but for what cannot be read: a
    field that is open for longer than `longest_field`, or at the end of the file; a
    record without an end. Then it is the last one.

    Args:
        source: the bytes, from the beginning of a record on.
        dialect: how they are written.
        size: bytes per block, more only where one record needs them.
        longest_field: bytes.
    """
    buffer, filled = bytearray(size), 0
    while True:
        filled += read_into(source, memoryview(buffer)[filled:])
        ended = filled < len(buffer)
        quotes = None
        if dialect.quoted and buffer.find(b'"', 0, filled) >= 0:
            block = np.frombuffer(buffer, np.uint8, filled)
            quotes = scan_quotes(block, ord(dialect.delimiter))
            if quotes.open_at is not None:
                ended |= filled - quotes.open_at > longest_field
        end = filled if ended else record_end(buffer, filled, quotes, dialect.new_line)
        if not end and filled > longest_field * _FIELDS_PER_RECORD:
            ended, end = True, filled
        if end:
            yield memoryview(buffer)[:end], quotes
        if ended:
            return
        rest = memoryview(buffer)[end:filled]
        buffer = bytearray(len(buffer) if end else 2 * len(buffer))
        filled = len(rest)
        buffer[:filled] = rest


def ahead(items: Iterator[Item]) -> Iterator[Item]:
    """Yields `items`, the next one of which is made while the last one is used."""
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        pending = pool.submit(next, items, None)
        while (item := pending.result()) is not None:
            pending = pool.submit(next, items, None)
            yield item


def read_into(source: BinaryIO, buffer: memoryview) -> int:
    """Fills `buffer` unless the stream ends; returns the number of bytes."""
    filled = 0
    while filled < len(buffer):
        count = source.readinto(buffer[filled:])
        if not count:
            break
        filled += count
    return filled
