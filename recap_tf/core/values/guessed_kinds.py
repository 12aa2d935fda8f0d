"""What the texts of a column are, as far as one can see."""

import pyarrow as pa
import pyarrow.compute as pc


def guess_kind(column: pa.ChunkedArray) -> str:
    """What a column of texts holds: "integer", "number" or "text".

    >>> guess_kind(pa.chunked_array([["7", None, "11"]]))
    'integer'
    """
    # 02139 is a code, not a number.
    padded = pc.any(pc.match_substring_regex(column, r"^-?0\d")).as_py()
    if column.null_count == len(column) or padded:
        return "text"
    # Ids of 64 bits without sign are whole numbers that int64 does not hold.
    whole = pc.all(pc.match_substring_regex(column, r"^-?[0-9]+$")).as_py()
    if whole or casts(column, pa.int64()):
        return "integer"
    return "number" if casts(column, pa.float64()) else "text"


def casts(column: pa.ChunkedArray, kind: pa.DataType) -> bool:
    """Whether every value is one of the Arrow type `kind`."""
    try:
        column.cast(kind)
    except pa.ArrowInvalid:
        return False
    return True
