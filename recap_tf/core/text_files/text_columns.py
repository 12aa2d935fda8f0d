"""What a column of texts holds, and its values as that, if nothing is lost by it."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.values.iso_times import parse_iso
from recap_tf.core.values.text_bytes import TextBytes
from recap_tf.core.values.time_values import as_timestamps

_NUMBER = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?$"
_NO_NUMBER = r"^[+-]?(?i:nan|inf|infinity)$"
_WHOLE = r"^[+-]?[0-9]+$"
_PADDED = r"^[+-]?0[0-9]"
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")


def guess_kind(column: pa.Array) -> str:
    """ "text", "integer", "number", "boolean" or "time".

    Codes are text: with leading zeros (02139), hexadecimal (0x10), whole numbers beyond
    64 bits. So is a column without a value.
    """
    column = column.drop_null()
    if not len(column):
        return "text"
    for kind in ("integer", "boolean", "time"):
        if typed(column, kind) is not None:
            return kind
    numbers = pc.match_substring_regex(column, _NUMBER)
    if not pc.any(numbers).as_py():
        return "text"
    others = column.filter(pc.invert(numbers))
    named = pc.match_substring_regex(others, _NO_NUMBER)
    if not pc.all(named, min_count=0).as_py():
        return "text"
    if pc.any(pc.match_substring_regex(column, _PADDED)).as_py():
        return "text"
    whole = column.filter(pc.match_substring_regex(column, _WHOLE))
    whole = pc.replace_substring_regex(whole, r"^\+", "")
    return "text" if _cast(whole, pa.int64()) is None else "number"


def typed(column: pa.Array, kind: str) -> pa.Array | None:
    """The values of `column` as `kind`; None if one of them is none.

    An integer is one only in its shortest spelling, so that its text is what stood in
    the file: 007, +7 and 0x10 are none. The number nan is a missing value.

    Args:
        column: texts.
        kind: one of `guess_kind`.
    """
    if kind == "integer":
        values = _cast(column, pa.int64())
        return None if values is None or _has_other_spelling(column) else values
    if kind == "number":
        values = _cast(column, pa.float64())
        if values is None:
            return None
        return pc.if_else(pc.is_nan(values), pa.scalar(None, pa.float64()), values)
    if kind == "boolean":
        words = pa.array([*_TRUE, *_FALSE], column.type)
        places = pc.index_in(column, words)
        if places.null_count > column.null_count:
            return None
        return pc.less(places, len(_TRUE))
    if kind == "time":
        moments = parse_iso(column)
        if np.count_nonzero(moments.valid) + column.null_count < len(column):
            return None
        return as_timestamps(moments)
    return column


def _cast(column: pa.Array, kind: pa.DataType) -> pa.Array | None:
    try:
        # A cast that fails in every row is slow: the first row is asked first.
        column.slice(0, 1).cast(kind)
        return column.cast(kind)
    except pa.ArrowInvalid:
        return None


def _has_other_spelling(column: pa.Array) -> bool:
    """Whether Arrow took a text for a whole number that is not its shortest text."""
    text = TextBytes(column)
    # A missing value has no bytes.
    longer = text.lengths > 1
    first = text.at(0)
    padded = first == ord("0")
    negative = first == ord("-")
    if negative.any():
        padded |= negative & (text.at(1) == ord("0"))
    return bool((padded & longer).any())
