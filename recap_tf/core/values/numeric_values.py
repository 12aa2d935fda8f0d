"""Columns of any kind as float64 numbers, and as labels of 0 and 1."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.values.arrow_kinds import BadValue, decoded, kind_of
from recap_tf.core.values.iso_times import parse_iso
from recap_tf.core.values.time_form import TimeForm
from recap_tf.core.values.time_values import milliseconds

_WORDS = ("false", "true")


def numbers(column: pa.Array, form: TimeForm | None = None) -> np.ndarray:
    """(rows,) float64, NaN where a value is missing.

    Booleans are 0 and 1, times milliseconds since 1970, durations and times of day
    milliseconds; so are texts of them, if the whole column is. Blanks around a number
    do not count.

    Args:
        column: of any kind but a list.
        form: of texts of times.

    Raises:
        BadValue: a text that is no number.
        TypeError: a list, or a type that cannot be read.
    """
    column = decoded(column)
    kind = kind_of(column.type)
    if kind in ("time", "duration"):
        return milliseconds(column, form)
    if kind == "text":
        return _of_texts(column, form)
    if kind not in ("integer", "number", "boolean", "null"):
        raise TypeError(f"{column.type} values are no numbers.")
    # Integers beyond 2^53 are rounded, which is what a float64 is for.
    return column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False)


def zero_or_one(column: pa.Array) -> np.ndarray:
    """(rows,) int64 labels, of numbers, booleans, or texts of them.

    Raises:
        BadValue: a value that is neither 0 nor 1, or a missing one.
    """
    try:
        values = numbers(column)
        wrong = np.flatnonzero((values != 0) & (values != 1))
    except BadValue as error:
        wrong = [error.index]
    if len(wrong):
        index = int(wrong[0])
        raise BadValue(index, repr(decoded(column)[index].as_py()))
    return values.astype(np.int64)


def _of_texts(column: pa.Array, form: TimeForm | None) -> np.ndarray:
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid:
        column = pc.utf8_trim_whitespace(column)
    first = column.drop_null()[0].as_py()
    if first.lower() in _WORDS:
        places = pc.index_in(pc.utf8_lower(column), pa.array(_WORDS, column.type))
        if places.null_count == column.null_count:
            return places.cast(pa.float64()).to_numpy(zero_copy_only=False)
    times = form.parse if form else parse_iso
    if times(column.drop_null()).valid.all():
        return milliseconds(column, form)
    try:
        return column.cast(pa.float64()).to_numpy(zero_copy_only=False)
    except pa.ArrowInvalid as error:
        for index, value in enumerate(column):
            try:
                value.cast(pa.float64())
            except pa.ArrowInvalid:
                raise BadValue(index, repr(value.as_py())) from error
        raise
