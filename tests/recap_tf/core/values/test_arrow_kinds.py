"""Every Arrow type: what it holds, its plain values, or what to do about it."""

import decimal
import uuid

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from recap_tf.core.values.arrow_kinds import (
    BadValue,
    advice,
    decoded,
    kind_of,
)

STRUCT = pa.struct([("city", pa.string()), ("zip", pa.int32())])
KINDS = {
    "text": [
        pa.string(),
        pa.large_string(),
        pa.string_view(),
        pa.binary(),
        pa.large_binary(),
        pa.binary_view(),
        pa.binary(4),
        pa.uuid(),
        pa.json_(),
        pa.dictionary(pa.int8(), pa.large_string()),
        pa.run_end_encoded(pa.int32(), pa.string()),
    ],
    "integer": [
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64()),
        *(pa.uint8(), pa.uint16(), pa.uint32(), pa.uint64()),
        *(pa.decimal32(5, 0), pa.decimal64(10, 0), pa.decimal128(38, 0)),
        *(pa.decimal256(70, 0), pa.decimal128(5, -2)),
        pa.dictionary(pa.int32(), pa.uint64()),
        pa.opaque(pa.int64(), "type", "vendor"),
    ],
    "number": [
        *(pa.float16(), pa.float32(), pa.float64()),
        *(pa.decimal32(5, 2), pa.decimal128(38, 1), pa.decimal256(70, 3)),
    ],
    "boolean": [pa.bool_(), pa.bool8()],
    "time": [
        *(pa.date32(), pa.date64()),
        *(pa.timestamp(unit) for unit in ("s", "ms", "us", "ns")),
        pa.timestamp("ns", tz="Asia/Tokyo"),
    ],
    "duration": [
        *(pa.duration(unit) for unit in ("s", "ms", "us", "ns")),
        *(pa.time32("s"), pa.time32("ms"), pa.time64("us"), pa.time64("ns")),
    ],
    "text list": [
        pa.list_(pa.string()),
        pa.large_list(pa.dictionary(pa.int32(), pa.string())),
        pa.list_view(pa.string_view()),
        pa.large_list_view(pa.uuid()),
        pa.list_(pa.timestamp("us")),
    ],
    "integer list": [pa.list_(pa.int64()), pa.list_(pa.decimal128(38, 0), 3)],
    "vector": [
        pa.list_(pa.float32(), 4),
        pa.list_(pa.decimal128(5, 2)),
        pa.fixed_shape_tensor(pa.float32(), [2, 2]),
        pa.list_(pa.null()),
    ],
    "null": [pa.null()],
    "other": [
        STRUCT,
        pa.map_(pa.string(), pa.int64()),
        pa.dense_union([pa.field("a", pa.int64()), pa.field("b", pa.string())]),
        pa.month_day_nano_interval(),
        pa.list_(pa.list_(pa.int64())),
        pa.list_(STRUCT),
    ],
}


@pytest.mark.parametrize(
    "kind, arrow", [(kind, t) for kind, types in KINDS.items() for t in types], ids=str
)
def test_kind_of_every_type(kind, arrow):
    assert kind_of(arrow) == kind
    assert (advice("x", arrow) is None) == (kind != "other")


@pytest.mark.parametrize(
    "arrow, words",
    [
        (
            STRUCT,
            "'geo'.*struct.*fields as columns of their own, as in geo.city, geo.zip",
        ),
        (pa.struct([]), "'geo'.*it has no fields"),
        (pa.map_(pa.string(), pa.int64()), "map<.*the keys that matter as columns"),
        (pa.month_day_nano_interval(), "months have no fixed length"),
        (pa.list_(pa.list_(pa.int64())), "lists of texts or of numbers"),
        (KINDS["other"][2], "as one type"),
    ],
    ids=["struct", "no fields", "map", "interval", "nested", "union"],
)
def test_the_advice_names_column_type_and_remedy(arrow, words):
    assert pc.match_substring_regex(pa.array([advice("geo", arrow)]), words)[0].as_py()


def test_every_type_of_this_pyarrow_is_covered():
    """A new kind of type must not become "other" unseen."""
    known = {t.id for types in KINDS.values() for t in types}
    named = {name for name in dir(pa.lib) if name.startswith("Type_")}
    # Extension types are of one id; some intervals have no Python type.
    absent = {"Type_INTERVAL_MONTHS", "Type_INTERVAL_DAY_TIME", "Type_SPARSE_UNION"}
    missing = {n for n in named - absent if getattr(pa.lib, n) not in known}
    assert not missing


def test_decoded_values():
    half = pa.array(np.array([0.5, np.nan], np.float16))
    assert decoded(half).to_pylist() == [0.5, None]
    assert decoded(pa.array([1.0, float("nan")])).to_pylist() == [1.0, None]
    big = pa.array([2**64 - 1], pa.uint64())
    assert decoded(pc.run_end_encode(big)).to_pylist() == [2**64 - 1]
    money = pa.array([decimal.Decimal("1.50")], pa.decimal64(10, 2))
    assert decoded(money).to_pylist() == [decimal.Decimal("1.50")]
    assert decoded(pa.array([b"de", None], pa.binary_view())).to_pylist() == [
        "de",
        None,
    ]
    assert decoded(pa.array(["a", None]).dictionary_encode()).to_pylist() == ["a", None]
    chunks = pa.chunked_array([["a"], ["b"]])
    assert decoded(chunks).to_pylist() == ["a", "b"]
    flags = pa.ExtensionArray.from_storage(
        pa.bool8(), pa.array([2, 0, None], pa.int8())
    )
    assert decoded(flags).to_pylist() == [True, False, None]


def test_uuids_are_their_usual_text_in_slices_too():
    values = [uuid.UUID(int=2**127 + 5), None, uuid.UUID(int=7)]
    storage = pa.array([v and v.bytes for v in values], pa.binary(16))
    column = pa.ExtensionArray.from_storage(pa.uuid(), storage)
    assert decoded(column).to_pylist() == [v and str(v) for v in values]
    assert decoded(column.slice(1)).to_pylist() == [None, str(values[2])]
    assert decoded(column.slice(0, 0)).to_pylist() == []


def test_bytes_that_are_no_text_are_refused():
    column = pa.array([b"ok", b"\xff\x00"])
    with pytest.raises(
        BadValue, match=r"b'\\xff\\x00', bytes that are no UTF-8"
    ) as bad:
        decoded(column)
    assert bad.value.index == 1
