"""Columns against typed values: the same answer in every type and file."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from recap_tf.core.command import UserError
from recap_tf.core.values.arrow_kinds import BadValue
from recap_tf.core.values.comparisons import compare
from recap_tf.core.values.time_form import TimeForm

STARS = {
    "int64": pa.array([5, 4, 1, None]),
    "uint8": pa.array([5, 4, 1, None], pa.uint8()),
    "float": pa.array([5, 4, 1, None], pa.float64()),
    "decimal": pa.array([Decimal("5.00"), Decimal(4), Decimal(1), None]),
    "decimal of whole numbers": pa.array([5, 4, 1, None]).cast(pa.decimal128(38, 0)),
    "text": pa.array(["5", "4", "1", None]),
    "text of floats": pa.array(["5.0", "4.0", "1.0", None]),
    "padded text": pa.array([" 5", "4 ", " 1 ", None]),
    "bytes": pa.array([b"5.0", b"4", b"1", None]),
    "dictionary": pa.array(["5.0", "4", "1", None]).dictionary_encode(),
}


@pytest.mark.parametrize("column", STARS.values(), ids=STARS)
@pytest.mark.parametrize(
    "operator, typed, expected",
    [
        ("==", ["5"], [True, False, False, None]),
        ("==", ["5.0"], [True, False, False, None]),
        ("!=", [" 5 "], [False, True, True, None]),
        ("==", ["1", "4.0"], [False, True, True, None]),
        ("!=", ["1", "4.0"], [True, False, False, None]),
        (">=", ["4"], [True, True, False, None]),
        ("<", ["4.5"], [False, True, True, None]),
        (">", ["4"], [True, False, False, None]),
        ("<=", ["1.0"], [False, False, True, None]),
    ],
)
def test_numbers(column, operator, typed, expected):
    assert compare("stars", column, operator, typed).to_pylist() == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([True, False, None]),
        pa.array(["True", "FALSE", None]),
        pa.array([1, 0, None]),
        pa.array([1.0, 0.0, None]),
    ],
    ids=lambda column: str(column.type),
)
@pytest.mark.parametrize("typed", ["true", "True", "TRUE"])
def test_booleans(column, typed):
    assert compare("x", column, "==", [typed]).to_pylist() == [True, False, None]
    assert compare("x", column, "!=", [typed]).to_pylist() == [False, True, None]
    if not pa.types.is_string(column.type):
        for operator, value, expected in (("==", "1", True), (">", "0", True)):
            assert compare("x", column, operator, [value])[0].as_py() is expected


BIG = 2**53 + 1
NOON = datetime.datetime(2024, 3, 1, 12)


@pytest.mark.parametrize(
    "column",
    [
        pa.array([BIG, BIG - 1]),
        pa.array([BIG, BIG - 1], pa.uint64()),
        pa.array([BIG, BIG - 1]).cast(pa.decimal128(38, 0)),
    ],
    ids=lambda column: str(column.type),
)
def test_whole_numbers_stay_exact(column):
    for operator, typed, expected in (
        ("==", str(BIG), [True, False]),
        (">=", str(BIG), [True, False]),
        ("<", str(BIG), [False, True]),
        ("<", str(2**64), [True, True]),
        (">", str(-(2**64)), [True, True]),
    ):
        assert compare("id", column, operator, [typed]).to_pylist() == expected


@pytest.mark.parametrize(
    "column",
    [
        pa.array([NOON, None], pa.timestamp("s")),
        pa.array([NOON, None], pa.timestamp("ns")).cast(pa.timestamp("ns", "UTC")),
        pa.array(["2024-03-01 12:00:00", None]),
        pa.array(["2024-03-01T14:00:00+02:00", None]),
    ],
    ids=["s", "zone", "text", "offset"],
)
@pytest.mark.parametrize(
    "operator, typed, expected",
    [
        (">=", "2024-03-01", True),
        ("<", "2024-03-01", False),
        (">", "2024-03-01 12:00", False),
        ("<=", "2024-03-01T13:00:00+01:00", True),
        ("==", "2024-03-01 12:00:00", True),
        ("!=", "2024-03-01T12:00:00Z", False),
    ],
)
def test_times(column, operator, typed, expected):
    assert compare("ts", column, operator, [typed]).to_pylist() == [expected, None]


def test_dates_are_midnights():
    column = pa.array([datetime.date(2024, 3, 1), datetime.date(2024, 3, 2)])
    assert compare("day", column, "==", ["2024-03-01"]).to_pylist() == [True, False]
    assert compare("day", column, ">", ["2024-03-01"]).to_pylist() == [False, True]


def test_times_in_a_form_that_is_named():
    column = pa.array(["01/02/2024", "15/01/2024", None])
    form = TimeForm("%d/%m/%Y")
    for typed in ("2024-01-20", "20/01/2024"):
        held = compare("day", column, ">=", [typed], form=form)
        assert held.to_pylist() == [True, False, None]


TITLES = pa.array([" The Wall", "The Wall", "1e5", "007", "b", None])


@pytest.mark.parametrize(
    "operator, typed, expected",
    [
        ("==", ["The Wall"], [1, 1, 0, 0, 0, None]),
        ("==", ["'The Wall'"], [0, 1, 0, 0, 0, None]),
        ("==", ['" The Wall"'], [1, 0, 0, 0, 0, None]),
        ("==", ["7", "100000"], [0, 0, 0, 0, 0, None]),
        ("==", ["007", "1e5"], [0, 0, 1, 1, 0, None]),
        (">", ["a"], [0, 0, 0, 0, 1, None]),
    ],
)
def test_texts(operator, typed, expected):
    expected = [None if value is None else bool(value) for value in expected]
    assert compare("title", TITLES, operator, typed).to_pylist() == expected


def test_a_kind_that_is_known():
    column = pa.array(["4.50", "4.5", "4"])
    held = compare("x", column, "==", ["4.5"], kind="number")
    assert held.to_pylist() == [True, True, False]
    assert compare("x", column, "==", ["4.5"]).to_pylist() == [False, True, False]


def test_durations_null_columns_and_narrow_floats():
    waits = pa.array([1500, 2000], pa.duration("us"))
    assert compare("wait", waits, "==", ["1.5"]).to_pylist() == [True, False]
    assert compare("wait", waits, ">", ["1.5"]).to_pylist() == [False, True]
    assert compare("x", pa.nulls(2), ">", ["1"]).to_pylist() == [None, None]
    assert compare("x", pa.nulls(2), "==", ["1"]).to_pylist() == [None, None]
    tenth = pa.array(np.array([0.1], np.float32))
    assert compare("x", tenth, "==", ["0.1"]).to_pylist() == [True]


@pytest.mark.parametrize(
    "column, operator, typed, words",
    [
        (pa.array([1]), "==", "many", "'x' holds int64; 'many' is no such value"),
        (pa.array([1.5]), ">", "'many'", "'x' holds double; 'many' is no such value"),
        (pa.array([1]), ">", "1_000", "'1_000' is no such value"),
        (pa.array([1]), ">=", "2024-03-10", "'2024-03-10' is no such value"),
        (pa.array([True]), "==", "2", "'x' holds bool; '2' is no such value"),
        (pa.array([NOON]), "==", "soon", "cannot be compared with 'soon', which is no"),
        (pa.array([NOON]), ">", "01/02/2024", "'01/02/2024', which is no time that is"),
        (pa.array(["a"]), ">", "01/02/2024", "A condition says '01/02/2024', which is"),
        (pa.array([[1]]), "==", "1", "'x' cannot be compared: it holds list<"),
        (pa.array([{"a": 1}]), "==", "1", "'x' holds struct<.*as in x.a"),
    ],
)
def test_what_cannot_be_compared(column, operator, typed, words):
    with pytest.raises(UserError, match=words):
        compare("x", column, operator, [typed])


@pytest.mark.parametrize(
    "values, typed, words",
    [
        (["5", "50000+."], "4", r"'50000\+.'"),
        (["2024-03-01", "1/2/2024"], "2024-03-01", "'1/2/2024', which is no time that"),
    ],
)
def test_values_that_are_none_of_what_was_typed(values, typed, words):
    with pytest.raises(BadValue, match=words) as bad:
        compare("x", pa.array(values), ">", [typed])
    assert bad.value.index == 1
