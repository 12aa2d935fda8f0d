"""The bytes of a text column, looked at by position for all rows at once."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


class TextBytes:
    """The bytes of the rows of a text or binary array; nothing is copied.

    Attributes:
        lengths: (rows,) bytes per row; what it says of a missing value has no meaning.
    """

    def __init__(self, column: pa.Array):
        self._starts, self._data = buffers(column)
        self.lengths = np.diff(self._starts)
        self._starts = self._starts[:-1]

    def at(self, index: int) -> np.ndarray:
        """(rows,) uint8: the byte at `index`, from the end if that is negative.

        Where a row has no such byte the result has no meaning.
        """
        if not len(self._data):
            return np.zeros(len(self._starts), np.uint8)
        places = self._starts + index
        if index < 0:
            places += self.lengths
        return np.take(self._data, places, mode="clip")

    def digits(self, first: int, count: int) -> tuple[np.ndarray, np.ndarray]:
        """(rows,) numbers of `count` digits from `first` on, and whether they are."""
        number = np.zeros(len(self._starts), np.int32)
        good = self.lengths >= first + count
        for index in range(first, first + count):
            # Bytes below "0" wrap round to numbers above 9.
            digit = self.at(index) - np.uint8(ord("0"))
            good &= digit < 10
            number = number * 10 + digit
        return number, good


def buffers(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """(offsets of the rows and of the end, bytes) of a text or binary array."""
    wide = pa.types.is_large_string(column.type) or pa.types.is_large_binary(
        column.type
    )
    number = np.int64 if wide else np.int32
    _, offsets, data = column.buffers()
    if offsets is None or not len(column):
        return np.zeros(len(column) + 1, number), np.zeros(0, np.uint8)
    offsets = np.frombuffer(offsets, number)
    offsets = offsets[column.offset : column.offset + len(column) + 1]
    return offsets, np.frombuffer(data or b"", np.uint8)


def texts_of(letters: np.ndarray, lengths: np.ndarray, valid: np.ndarray) -> pa.Array:
    """A text array of the first `lengths` bytes of each row of `letters`.

    Args:
        letters: (rows, longest) uint8.
        lengths: (rows,) bytes per row.
        valid: (rows,) bool, false for a missing text.
    """
    lengths = np.where(valid, lengths, 0)
    offsets = np.zeros(len(lengths) + 1, np.int64)
    np.cumsum(lengths, out=offsets[1:])
    data = letters[np.arange(letters.shape[1]) < lengths[:, None]]
    buffers = [
        None if valid.all() else pa.array(valid).buffers()[1],
        pa.py_buffer(offsets),
        pa.py_buffer(data.tobytes()),
    ]
    return pa.Array.from_buffers(pa.large_string(), len(lengths), buffers)


def replaced(column: pa.Array, rows: np.ndarray, values: pa.Array) -> pa.Array:
    """`column` with `values` in the rows whose numbers are `rows`."""
    mask = np.zeros(len(column), bool)
    mask[rows] = True
    return pc.replace_with_mask(column, pa.array(mask), values.cast(column.type))
