"""What a column of texts holds, and that nothing is lost where it is typed."""

import datetime

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_tf.core.text_files.text_columns import guess_kind, typed


@pytest.mark.parametrize(
    "values, kind",
    [
        (["7", "-1", "0", None], "integer"),
        ([str(2**63 - 1), str(-(2**63))], "integer"),
        (["7", str(2**63)], "text"),
        ([str(2**64 - 1), "1"], "text"),
        (["7", "1.5"], "number"),
        (["7.0", None, "8.0"], "number"),
        (["1e5", ".5", "+7", "7.", "-1E-3"], "number"),
        (["7", "+7"], "number"),
        (["1.5", "nan", "inf", "-Infinity"], "number"),
        (["1.5", str(2**64)], "text"),
        (["02139", "94110"], "text"),
        (["0.5", "-007.5"], "text"),
        (["0x10", "0x1F"], "text"),
        (["10", "0x1F"], "text"),
        (["a3f", "1e5"], "text"),
        (["nan", "inf"], "text"),
        ([" 7", "8"], "text"),
        (["7", ""], "text"),
        (["True", "FALSE", None], "boolean"),
        (["True", "1"], "text"),
        (["2024-03-01", "2024-03-01T10:00:00+02:00"], "time"),
        (["2024-03-01", "01/02/2024"], "text"),
        ([None, None], "text"),
        ([], "text"),
    ],
    ids=str,
)
def test_guess(values, kind):
    assert guess_kind(pa.array(values, pa.string())) == kind


@pytest.mark.parametrize(
    "values, kind, expected",
    [
        (["7", None, "-1"], "integer", [7, None, -1]),
        (["1.50", "nan", None], "number", [1.5, None, None]),
        (["True", None, "FALSE"], "boolean", [True, None, False]),
        (["1970-01-02", None], "time", [datetime.datetime(1970, 1, 2), None]),
        (["007"], "text", ["007"]),
        ([None, None], "integer", [None, None]),
        *(
            ([text, "7"], "integer", None)
            for text in ("007", "-0", "0x10", "7.0", "+7")
        ),
        *(
            (["7", text], "integer", None)
            for text in ("00", "-07", " 7", "guest-6", "")
        ),
        (["1.5", "0x10"], "number", None),
        (["1.5", "x"], "number", None),
        (["true", "1"], "boolean", None),
        (["2024-03-01", "soon"], "time", None),
    ],
)
def test_typed(values, kind, expected):
    column = pa.array(values, pa.string())
    result = typed(column, kind)
    assert (None if result is None else result.to_pylist()) == expected
    # A slice's buffers begin elsewhere.
    longer = pa.array(["0", *values], pa.string()).slice(1)
    result = typed(longer, kind)
    assert (None if result is None else result.to_pylist()) == expected


WHOLE = st.integers(-(2**70), 2**70).map(str) | st.text("0123456789-+", max_size=5)


def is_shortest(text: str) -> bool:
    whole = text.removeprefix("-").isdigit() and str(int(text)) == text
    return whole and -(2**63) <= int(text) < 2**63


@given(st.lists(st.none() | WHOLE))
def test_a_typed_integer_gives_its_text_back(values):
    column = pa.array(values, pa.string())
    integers = typed(column, "integer")
    if integers is not None:
        assert integers.cast(pa.string()).equals(column)
    fits = all(value is None or is_shortest(value) for value in values)
    assert (integers is not None) == fits
