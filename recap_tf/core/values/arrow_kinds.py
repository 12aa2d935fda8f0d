"""What a column of any Arrow type holds, and its values in a plain type.

| Arrow type | kind | decoded |
|---|---|---|
| string, large_string, string_view, JSON | text | string or large_string |
| binary, large_binary, binary_view, fixed_size_binary | text | the same, of UTF-8 |
| UUID | text | string, 8-4-4-4-12 small hex digits |
| integers; decimals without digits behind the point | integer | as stored |
| floats; other decimals | number | as stored; halves as float32, NaN as missing |
| bool, bool8 | boolean | bool |
| dates, timestamps | time | as stored; one without a zone is in UTC |
| duration, time of day | duration | as stored; its number is in milliseconds |
| list of texts, UUIDs, times, booleans | text list | list |
| list of integers | integer list | list |
| list of numbers, durations; fixed-shape tensor | vector | list |
| null | null | null |
| dictionary, run-end encoded, other extension types | that of the values | values |

A struct is not read itself, but its fields are, as `a.b`. The rest (maps, unions,
intervals, lists of lists or structs) is "other", and `advice` says what to do.
"""

from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.values.text_bytes import buffers, texts_of

LISTS = ("text list", "integer list", "vector")
"""Kinds with several values per row."""

_ELEMENTS = {
    "text": "text list",
    "time": "text list",
    "boolean": "text list",
    "integer": "integer list",
    "number": "vector",
    "duration": "vector",
    # [[], [], null] has no element that says more.
    "null": "vector",
}
_HEX = np.array([f"{byte:02x}".encode() for byte in range(256)]).view(np.uint8)


class BadValue(ValueError):
    """A value that cannot be used: `index` in its column, and what is wrong."""

    def __init__(self, index: int, problem: str):
        super().__init__(problem)
        self.index = int(index)


def kind_of(kind: pa.DataType) -> str:
    """What a column of an Arrow type holds: a kind of the table above, or "other"."""
    kind = stored_type(kind)
    if _is(kind, "string", "large_string", "string_view"):
        return "text"
    if _is(kind, "binary", "large_binary", "binary_view", "fixed_size_binary"):
        return "text"
    if pa.types.is_integer(kind):
        return "integer"
    if pa.types.is_decimal(kind):
        return "integer" if kind.scale <= 0 else "number"
    if pa.types.is_floating(kind):
        return "number"
    if pa.types.is_boolean(kind):
        return "boolean"
    if pa.types.is_timestamp(kind) or pa.types.is_date(kind):
        return "time"
    if pa.types.is_duration(kind) or pa.types.is_time(kind):
        return "duration"
    if pa.types.is_null(kind):
        return "null"
    if is_list(kind):
        return _ELEMENTS.get(kind_of(kind.value_type), "other")
    return "other"


def advice(name: str, kind: pa.DataType) -> str | None:
    """One sentence: the column, its Arrow type, what to do; None if it can be read.

    Args:
        name: the column's.
        kind: its Arrow type.
    """
    if kind_of(kind) != "other":
        return None
    kind = stored_type(kind)
    if pa.types.is_struct(kind):
        paths = list(_leaves(name, kind))[:4]
        remedy = (
            f"write its fields as columns of their own, as in {', '.join(paths)}"
            if paths
            else "it has no fields"
        )
    elif pa.types.is_map(kind):
        remedy = "write the keys that matter as columns of their own"
    elif pa.types.is_union(kind):
        remedy = "write it as one type, for instance as text"
    elif _is(kind, "interval"):
        remedy = (
            "months have no fixed length: write it as a duration, or as whole numbers"
        )
    elif is_list(kind):
        remedy = (
            "write lists of texts or of numbers, for instance one per field of what "
            "its elements hold"
        )
    else:
        remedy = "write it as text or as numbers"
    return f"Column {name!r} holds {kind}, which cannot be read: {remedy}."


def is_list(kind: pa.DataType) -> bool:
    """Whether it is a list of any layout; a map is none."""
    return _is(
        kind,
        "list",
        "large_list",
        "fixed_size_list",
        "list_view",
        "large_list_view",
    )


def decoded(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The values as one array of the plain type that the table above names.

    Nothing is rounded: integers beyond 64 bits, decimals and nanoseconds stay exact.

    Raises:
        BadValue: bytes that are no UTF-8.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):
            column = pa.concat_arrays(column.chunks)
    kind = column.type
    if isinstance(kind, pa.BaseExtensionType):
        storage = column.storage
        if _extension(kind) == "arrow.uuid":
            return _uuid_texts(storage)
        if _extension(kind) == "arrow.bool8":
            storage = pc.not_equal(storage, 0)
        return decoded(storage)
    if pa.types.is_dictionary(kind):
        return decoded(column.dictionary).take(column.indices)
    if _is(kind, "run_end_encoded"):
        return decoded(pc.run_end_decode(column))
    if _is(kind, "string_view"):
        return column.cast(pa.large_string())
    if _is(kind, "binary_view", "fixed_size_binary"):
        return _utf8(column.cast(pa.large_binary()))
    if _is(kind, "binary", "large_binary"):
        return _utf8(column)
    if _is(kind, "decimal32", "decimal64"):
        return column.cast(pa.decimal128(38, kind.scale))
    if pa.types.is_float16(kind):
        column = column.cast(pa.float32())
    if pa.types.is_floating(column.type):
        return pc.if_else(pc.is_nan(column), pa.scalar(None, column.type), column)
    return column


def stored_type(kind: pa.DataType) -> pa.DataType:
    """The type of `decoded` values, as far as it decides the kind."""
    if isinstance(kind, pa.BaseExtensionType):
        known = {"arrow.uuid": pa.string(), "arrow.bool8": pa.bool_()}
        name = _extension(kind)
        return known[name] if name in known else stored_type(kind.storage_type)
    if pa.types.is_dictionary(kind) or _is(kind, "run_end_encoded"):
        return stored_type(kind.value_type)
    return kind


def _extension(kind: pa.BaseExtensionType) -> str:
    return getattr(kind, "extension_name", "")


def _is(kind: pa.DataType, *names: str) -> bool:
    """`pa.types.is_NAME(kind)` for any of the names that this pyarrow knows."""
    checks = (getattr(pa.types, f"is_{name}", None) for name in names)
    return any(check(kind) for check in checks if check)


def _leaves(prefix: str, kind: pa.StructType) -> Iterable[str]:
    """The paths of the fields that are no structs themselves."""
    for index in range(kind.num_fields):
        field = kind.field(index)
        path, inner = f"{prefix}.{field.name}", stored_type(field.type)
        if pa.types.is_struct(inner):
            yield from _leaves(path, inner)
        else:
            yield path


def _uuid_texts(storage: pa.Array) -> pa.Array:
    rows = len(storage)
    filled = storage.fill_null(pa.scalar(bytes(16), storage.type))
    offsets, data = buffers(filled.cast(pa.binary()))
    raw = data[offsets[0] : offsets[-1]].reshape(rows, 16)
    letters = np.full((rows, 36), ord("-"), np.uint8)
    places = [place for place in range(36) if place not in (8, 13, 18, 23)]
    letters[:, places] = _HEX.reshape(256, 2)[raw].reshape(rows, 32)
    valid = storage.is_valid().to_numpy(zero_copy_only=False)
    return texts_of(letters, np.full(rows, 36), valid)


def _utf8(column: pa.Array) -> pa.Array:
    """Bytes as text.

    Raises:
        BadValue: bytes that are no UTF-8.
    """
    wide = pa.types.is_large_binary(column.type)
    kind = pa.large_string() if wide else pa.string()
    try:
        return column.cast(kind)
    except pa.ArrowInvalid as error:
        for index, value in enumerate(column):
            try:
                value.cast(kind)
            except pa.ArrowInvalid:
                raise BadValue(
                    index,
                    f"{value.as_py()[:40]!r}, bytes that are no UTF-8 text: write "
                    "them as text, for instance in hexadecimal",
                ) from error
        raise
