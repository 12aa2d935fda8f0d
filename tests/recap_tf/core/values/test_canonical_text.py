"""One text per value, across types and files."""

import csv
import datetime
import io
import math
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_tf.core.values.canonical_text import (
    canonical_codes,
    canonical_text,
    canonical_texts,
)


@pytest.mark.parametrize(
    "text, expected",
    [
        *((text, "7") for text in ("7", "7.0", "7.00")),
        *((text, "0") for text in ("0", "0.0", "-0.0")),
        ("-7.0", "-7"),
        ("18446744073709551616.0", "18446744073709551616"),
        *((text, "true") for text in ("true", "True", "TRUE")),
        *((text, "false") for text in ("false", "False", "FALSE")),
        *((text, "0.00001") for text in ("1e-05", "1e-5", "1E-05", "1.0e-05")),
        ("1e+16", "10000000000000000"),
        ("-1.5e-7", "-0.00000015"),
        ("2.5e+2", "250"),
        ("2024-03-01 00:00:00", "2024-03-01"),
        ("2024-03-01T12:00:00+02:00", "2024-03-01T10:00:00Z"),
        ("2024-03-01 10:00:00.250", "2024-03-01T10:00:00.25Z"),
        ("10:00:00.500", "10:00:00.5"),
        ("10:00:00.000000", "10:00:00"),
    ],
)
def test_other_spellings_of_a_value(text, expected):
    assert canonical_text(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        *("007", "007.0", "00", "-007", "+7", "+7.0", " 7", "7 ", "7.", "-0", "1,0"),
        *("0x10", "1e5", "1E5", "12e-5", "e-05", "1.50", "1.10.0", ".0", ".50", "1_0"),
        *("nan", "NaN", "inf", "Infinity", "null", "NA", "", " ", "tRUE", "yes", "T"),
        *("2024-03-01", "2024-02-30 10:00", "01/02/2024 10:00", "2024-03-01 25:00"),
        *(
            "10:00:1000",
            "10:00",
            "user-1e-05",
            "v1.0",
            "1.0.0",
            "7.0x",
            "\u0667.0",
            "Trues",
        ),
    ],
)
def test_texts_that_stay_as_they_are(text):
    assert canonical_text(text) == text


BOTH = [Decimal("1.50"), Decimal("7.00"), Decimal("-0.01"), None]


@pytest.mark.parametrize(
    "column, expected",
    [
        (pa.array([7, -1, None]), ["7", "-1", None]),
        (pa.array([2**64 - 1], pa.uint64()), ["18446744073709551615"]),
        (pa.array([7.0, 1.5, -0.0, None]), ["7", "1.5", "0", None]),
        (pa.array([math.nan, math.inf, -math.inf]), [None, "inf", "-inf"]),
        (pa.array([2.0**53, 2.0**63, 1e22]), [str(2**53), str(2**63), str(10**22)]),
        (pa.array([1e-5, 1e-7, 1234567890123456.5]), None),
        (pa.array([0.1, 16777216.0], pa.float32()), ["0.1", "16777216"]),
        (pa.array(np.array([0.1, 2048, np.nan], np.float16)), ["0.1", "2048", None]),
        (pa.array(BOTH, pa.decimal128(5, 2)), ["1.5", "7", "-0.01", None]),
        (pa.array(BOTH, pa.decimal256(70, 20)), ["1.5", "7", "-0.01", None]),
        (pa.array(BOTH, pa.decimal32(5, 2)), ["1.5", "7", "-0.01", None]),
        (pa.array([Decimal("0.0000000")], pa.decimal128(9, 7)), ["0"]),
        (pa.array([Decimal("0.0000001")], pa.decimal128(9, 7)), ["0.0000001"]),
        (pa.array([Decimal(10**37 + 1)], pa.decimal128(38, 0)), [str(10**37 + 1)]),
        (pa.array([Decimal(1200)], pa.decimal128(5, -2)), ["1200"]),
        (pa.array([True, False, None]), ["true", "false", None]),
        (pa.array([b"de", b"1.0", None]), ["de", "1", None]),
        (pa.array(["a", "7.0", "a"]).dictionary_encode(), ["a", "7", "a"]),
        (pc.run_end_encode(pa.array(["7.0", "7.0", "x"])), ["7", "7", "x"]),
        (pa.array(["7.0", None, "7"], pa.string_view()), ["7", None, "7"]),
        (pa.array([datetime.date(2024, 3, 1), None]), ["2024-03-01", None]),
        (pa.array([datetime.date(2024, 3, 1)], pa.date64()), ["2024-03-01"]),
        (pa.array([datetime.time(10, 0, 0, 500000)]), ["10:00:00.5"]),
        (pa.array([datetime.time(10)], pa.time32("s")), ["10:00:00"]),
        (pa.array([1500, -1, None], pa.duration("us")), ["1.5", "-0.001", None]),
        (pa.array([2, None], pa.duration("s")), ["2000", None]),
        (pa.array([1_500_000], pa.duration("ns")), ["1.5"]),
        (pa.nulls(2), [None, None]),
        (pa.array([], pa.float64()), []),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_every_type(column, expected):
    if expected is None:
        expected = ["0.00001", "0.0000001", "1234567890123456.5"]
    assert canonical_texts(column).to_pylist() == expected
    # A slice's buffers begin elsewhere.
    for start in range(len(column)):
        assert canonical_texts(column.slice(start)).to_pylist() == expected[start:]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo", "-05:00"])
def test_timestamps_of_any_unit_and_zone(unit, zone):
    counts = pa.array([1_709_287_200, 1_709_251_200, None]).cast(pa.timestamp("s"))
    column = counts.cast(pa.timestamp(unit)).cast(pa.int64())
    column = column.cast(pa.timestamp(unit, tz=zone))
    texts = canonical_texts(column).to_pylist()
    assert texts == ["2024-03-01T10:00:00Z", "2024-03-01", None]


@pytest.mark.parametrize(
    "kind, values, expected",
    [
        (
            "number",
            ["1.50", "+1.5", "15e-1", " 1.5 ", "01.5", ".5", "-.50", "7.", "00", "-0"],
            ["1.5", "1.5", "1.5", "1.5", "1.5", "0.5", "-0.5", "7", "0", "0"],
        ),
        (
            "number",
            ["9007199254740993.50", "123456789012345678901", "1e5", "x", None, "True"],
            ["9007199254740993.5", "123456789012345678901", "100000", "x", None, "1"],
        ),
        ("number", [True, False, None], ["1", "0", None]),
        ("integer", ["007", "True", "7.0"], ["007", "1", "7"]),
        ("boolean", [1, 0, 2, None], ["true", "false", "2", None]),
        ("boolean", ["1.0", "0", "TRUE"], ["true", "false", "true"]),
        ("text", ["1.50", "7.0"], ["1.50", "7"]),
    ],
)
def test_a_kind_that_is_known_reads_texts_as_that(kind, values, expected):
    assert canonical_texts(pa.array(values), kind).to_pylist() == expected
    assert canonical_text("1.50", "number") == "1.5"


@pytest.mark.parametrize(
    "column",
    [
        pa.array([[1]]),
        pa.array([{"a": 1}]),
        pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
    ],
    ids=["list", "struct", "map"],
)
def test_what_has_no_text(column):
    with pytest.raises(TypeError, match="have no text"):
        canonical_texts(column)


def test_codes_are_of_values_not_of_spellings():
    codes, values = canonical_codes(pa.array(["7", "x", "7.0", None, "7.00", "x"]))
    assert values == ["7", "x"]
    assert codes.tolist() == [0, 1, 0, -1, 0, 1]
    codes, values = canonical_codes(pa.array(BOTH).cast(pa.decimal64(5, 2)))
    assert [values[code] for code in codes[:3]] == ["1.5", "7", "-0.01"]
    assert codes[3] == -1
    codes, values = canonical_codes(pa.nulls(3))
    assert (codes.tolist(), values) == ([-1, -1, -1], [])
    assert canonical_codes(pa.array([1, 0]), "boolean")[1] == ["true", "false"]


# What holds for every value.

INTEGERS = st.one_of(
    st.integers(-(10**37), 10**37),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 3),
    st.sampled_from([2**53 + 1, 2**63 - 1, 2**63, -(2**63), 2**64 - 1]),
)
LONG = {
    pa.int64(): (-(2**63), 2**63 - 1),
    pa.uint64(): (0, 2**64 - 1),
    pa.float64(): (-(2**53), 2**53),
    pa.int8(): (-128, 127),
}


def _texts_of_csv(values: list[str]) -> list[str]:
    """Canonical texts of a column of a CSV file, of which all are read as text."""
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["value", "beside"])
    writer.writerows([value, "."] for value in values)
    options = pyarrow.csv.ConvertOptions(column_types={"value": pa.string()})
    data = io.BytesIO(text.getvalue().encode())
    table = pyarrow.csv.read_csv(data, convert_options=options)
    return canonical_texts(table["value"].combine_chunks()).to_pylist()


@given(st.lists(INTEGERS, min_size=1))
def test_an_integer_is_one_text_in_every_type_and_file(values):
    expected = [str(value) for value in values]
    decimals = [Decimal(value) for value in values]
    columns = [
        pa.array(decimals, pa.decimal128(38, 0)),
        pa.array(decimals, pa.decimal256(76, 2)),
        pa.array(expected, pa.large_string()),
        pa.array([f"{value}.0" for value in values], pa.string_view()),
        pa.array(expected).dictionary_encode(),
        pa.array([text.encode() for text in expected], pa.binary()),
    ]
    for kind, (low, high) in LONG.items():
        if all(low <= value <= high for value in values):
            columns.append(
                pa.array(values).cast(kind) if low else pa.array(values, kind)
            )
    for column in columns:
        assert canonical_texts(column).to_pylist() == expected, column.type
    assert _texts_of_csv(expected) == expected
    assert _texts_of_csv([f"{value}.0" for value in values]) == expected


@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1))
def test_a_float_is_one_text_in_parquet_and_as_python_writes_it(values):
    expected = canonical_texts(pa.array(values, pa.float64())).to_pylist()
    spelt = [repr(value) for value in values]
    assert canonical_texts(pa.array(spelt)).to_pylist() == expected
    assert _texts_of_csv(spelt) == expected
    # It is that number, in full.
    assert [float(text) for text in expected] == values
    assert not any("e" in text for text in expected)


@given(st.lists(st.decimals(-(10**9), 10**9, places=4), min_size=1))
def test_a_decimal_is_one_text_where_its_column_is_known_to_hold_numbers(values):
    column = pa.array(values, pa.decimal128(20, 4))
    expected = canonical_texts(column).to_pylist()
    spelt = [f"{value:f}" for value in values]
    assert canonical_texts(pa.array(spelt), "number").to_pylist() == expected
    assert [Decimal(text) for text in expected] == values


@given(st.lists(st.datetimes(datetime.datetime(1, 1, 1)), min_size=1))
def test_a_time_is_one_text_in_parquet_and_csv(values):
    column = pa.array(values, pa.timestamp("us"))
    expected = canonical_texts(column).to_pylist()
    for spelt in ([str(v) for v in values], [f"{v.isoformat()}Z" for v in values]):
        assert canonical_texts(pa.array(spelt)).to_pylist() == expected
        assert _texts_of_csv(spelt) == expected


@given(st.lists(st.booleans(), min_size=1), st.sampled_from([str, str.upper, repr]))
def test_a_boolean_is_one_text(values, spell):
    expected = canonical_texts(pa.array(values)).to_pylist()
    spelt = [spell(str(value)).strip("'") for value in values]
    assert _texts_of_csv(spelt) == expected


ODD = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\r\0")),
    st.text("0123456789.-+eET: Z", max_size=12),
    st.from_regex(r"-?0?[0-9]{0,3}\.?0{0,3}(e[+-]?[0-9]{1,2})?", fullmatch=True),
    st.sampled_from(["True", "tRue", "7.0", "1e-05", "2024-03-01 00:00", "10:00:00.0"]),
)


@given(st.lists(ODD))
def test_the_text_of_a_text_is_itself(values):
    texts = canonical_texts(pa.array(values, pa.string()))
    assert canonical_texts(texts).equals(texts)
    for value, text in zip(values, texts.to_pylist(), strict=True):
        # Neighbours do not matter.
        assert canonical_text(value) == text


@given(st.lists(ODD))
def test_codes_point_at_the_texts(values):
    column = pa.array([*values, None], pa.string())
    codes, known = canonical_codes(column)
    assert len(set(known)) == len(known)
    assert codes[-1] == -1
    texts = [None if code < 0 else known[code] for code in codes]
    assert texts == canonical_texts(column).to_pylist()
