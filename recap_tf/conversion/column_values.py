"""Arrow columns as NumPy arrays: numbers, texts, times, vectors, 0/1 labels, keys."""

import hashlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.column_kinds import kind_of, plain

NULL_KEY = -1


class BadValue(ValueError):
    """A value that cannot be used: `index` in the column, and what it is."""

    def __init__(self, index: int, problem: str):
        super().__init__(problem)
        self.index = int(index)


def numbers(column: pa.Array) -> np.ndarray:
    """float64 values, NaN where one is missing; times in ms since 1970.

    Raises:
        BadValue: a text that is no number.
    """
    kind = kind_of(column.type)
    if kind == "time":
        column = column.cast(pa.timestamp("ms"), safe=False).cast(pa.int64())
    elif kind == "text":
        column = _parsed(column, pa.float64())
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def times(column: pa.Array) -> np.ndarray:
    """Values that order as the times do: int64 if they are whole, else float64.

    Raises:
        BadValue: a missing value, or a text that is neither a number nor a time.
    """
    if column.null_count:
        index = np.flatnonzero(column.is_null().to_numpy(zero_copy_only=False))[0]
        raise BadValue(index, "a missing time")
    if kind_of(column.type) == "text":
        for kind in (pa.int64(), pa.float64()):
            try:
                return column.cast(kind).to_numpy()
            except pa.ArrowInvalid:
                pass
        column = _parsed(column, pa.timestamp("us"))
    if kind_of(column.type) == "time":
        column = column.cast(pa.timestamp("us"), safe=False)
    if pa.types.is_floating(column.type):
        return column.cast(pa.float64()).to_numpy()
    return column.cast(pa.int64()).to_numpy(zero_copy_only=False)


def texts(column: pa.Array) -> tuple[np.ndarray, list[str]]:
    """(codes, values): the text of row i is values[codes[i]]; code -1 is missing.

    The text of a whole number is the same whatever type it was stored in: 7, 7.0 and
    "7" are one value.
    """
    encoded = column.dictionary_encode()
    codes = pc.fill_null(encoded.indices, -1).to_numpy().astype(np.int64)
    values = encoded.dictionary
    if kind_of(values.type) == "number":
        return codes, [_number_text(value) for value in values.to_pylist()]
    return codes, values.cast(pa.string()).to_pylist()


def zero_or_one(column: pa.Array) -> np.ndarray:
    """int64 labels.

    Raises:
        BadValue: a value that is neither 0 nor 1.
    """
    try:
        values = numbers(column)
    except BadValue as error:
        raise BadValue(error.index, repr(column[error.index].as_py())) from error
    wrong = (values != 0) & (values != 1)
    if wrong.any():
        index = np.flatnonzero(wrong)[0]
        raise BadValue(index, repr(column[int(index)].as_py()))
    return values.astype(np.int64)


def vectors(column: pa.Array, width: int) -> np.ndarray:
    """float32 (rows, width); zeros where the vector is missing.

    Raises:
        BadValue: a vector of another width, or with a value that is not finite.
    """
    lengths = pc.list_value_length(column)
    wrong = pc.fill_null(pc.not_equal(lengths, width), False)
    wrong = np.flatnonzero(wrong.to_numpy(zero_copy_only=False))
    if len(wrong):
        length = lengths[int(wrong[0])].as_py()
        raise BadValue(wrong[0], f"{length} values instead of {width}")
    there = column.is_valid().to_numpy(zero_copy_only=False)
    flat = plain(pc.list_flatten(column)).cast(pa.float32(), safe=False)
    flat = flat.to_numpy(zero_copy_only=False).reshape(-1, width)
    finite = np.isfinite(flat).all(axis=1)
    if not finite.all():
        index = np.flatnonzero(there)[np.flatnonzero(~finite)[0]]
        raise BadValue(index, "a value that is missing or not finite")
    result = np.zeros((len(column), width), np.float32)
    result[there] = flat
    return result


def keys(column: pa.Array) -> np.ndarray:
    """int64 keys: a whole number is its own, another text is hashed; -1 if missing.

    The hash is the first 8 bytes of BLAKE2b, the same on every machine.
    """
    codes, values = texts(column)
    table = np.array([_key(value) for value in values] + [NULL_KEY], np.int64)
    return table[codes]


def _parsed(column: pa.Array, kind: pa.DataType) -> pa.Array:
    column = pc.utf8_trim_whitespace(column)
    try:
        return column.cast(kind)
    except pa.ArrowInvalid:
        pass
    for index, value in enumerate(column):
        try:
            value.cast(kind)
        except pa.ArrowInvalid as error:
            raise BadValue(index, repr(value.as_py())) from error
    raise AssertionError("a cast failed that succeeds value by value")


def _number_text(value: float) -> str:
    return str(int(value)) if np.isfinite(value) and value == int(value) else str(value)


def _key(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = None
    if number is not None and str(number) == text and -(2**63) <= number < 2**63:
        return number
    return int.from_bytes(
        hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True
    )
