"""The kinds of columns in parquet and CSV files: "text", "integer", "vector" ..."""

import contextlib

import pyarrow as pa
import pyarrow.compute as pc


def kind_of(kind: pa.DataType) -> str:
    """What a column of an Arrow type holds; see `row_files.TableFile`.

    >>> kind_of(pa.list_(pa.float32()))
    'vector'
    """
    types = pa.types
    if types.is_dictionary(kind):
        return kind_of(kind.value_type)
    if types.is_string(kind) or types.is_large_string(kind):
        return "text"
    if types.is_integer(kind):
        return "integer"
    if types.is_floating(kind) or types.is_decimal(kind):
        return "number"
    if types.is_boolean(kind):
        return "boolean"
    if types.is_timestamp(kind) or types.is_date(kind):
        return "time"
    if (
        types.is_list(kind)
        or types.is_large_list(kind)
        or types.is_fixed_size_list(kind)
    ):
        return (
            "vector" if kind_of(kind.value_type) in ("number", "integer") else "other"
        )
    return "other"


def plain(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """One contiguous array; dictionary-encoded values decoded, NaN made missing."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_decimal(column.type) or pa.types.is_float16(column.type):
        column = column.cast(pa.float64())
    if pa.types.is_floating(column.type):
        column = pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def guess_kind(column: pa.ChunkedArray) -> str:
    """What a column of texts holds: "integer", "number" or "text".

    >>> guess_kind(pa.chunked_array([["7", None, "11"]]))
    'integer'
    """
    # 02139 is a code, not a number.
    padded = pc.any(pc.match_substring_regex(column, r"^-?0\d")).as_py()
    if column.null_count == len(column) or padded:
        return "text"
    for kind, name in ((pa.int64(), "integer"), (pa.float64(), "number")):
        with contextlib.suppress(pa.ArrowInvalid):
            column.cast(kind)
            return name
    return "text"
