"""Numbers and labels of columns of any kind."""

import datetime
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from recap_tf.core.values.arrow_kinds import BadValue
from recap_tf.core.values.numeric_values import numbers, zero_or_one
from recap_tf.core.values.time_form import TimeForm

NAN = float("nan")


@pytest.mark.parametrize(
    "column, expected",
    [
        (pa.array([7, None]), [7, NAN]),
        (pa.array([2**64 - 1], pa.uint64()), [2.0**64]),
        (pa.array([Decimal("1.50"), None]), [1.5, NAN]),
        (pa.array([Decimal(10**30)], pa.decimal128(38, 0)), [1e30]),
        (pa.array(np.array([0.5], np.float16)), [0.5]),
        (pa.array([True, False, None]), [1, 0, NAN]),
        (pa.array(["1.50", "1e5", None, "nan"]), [1.5, 1e5, NAN, NAN]),
        (pa.array([" 7 ", "8"]), [7, 8]),
        (pa.array(["True", "false", None, "TRUE"]), [1, 0, NAN, 1]),
        (pa.array([b"7"]), [7]),
        (pa.array(["7", "8"]).dictionary_encode(), [7, 8]),
        (pa.array([datetime.date(1970, 1, 2), None]), [86_400_000, NAN]),
        (pa.array([None, "1970-01-02", " 1970-01-01T00:00:01Z"]), [NAN, 86.4e6, 1e3]),
        (pa.array([1500], pa.duration("us")), [1.5]),
        (pa.nulls(2), [NAN, NAN]),
        (pa.array([], pa.string()), []),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else "",
)
def test_numbers(column, expected):
    np.testing.assert_array_equal(numbers(column), expected)


def test_numbers_of_times_in_a_form_that_is_named():
    column = pa.array(["02/01/1970", None])
    result = numbers(column, TimeForm("%d/%m/%Y"))
    np.testing.assert_array_equal(result, [86_400_000, NAN])


@pytest.mark.parametrize(
    "values, index, words",
    [
        (["7", None, "many"], 2, "'many'"),
        (["7", "0x10"], 1, "'0x10'"),
        (["", "7"], 0, "''"),
        (["true", "1"], 0, "'true'"),
        (["1970-01-02", "soon"], 0, "'1970-01-02'"),
    ],
)
def test_texts_that_are_no_numbers(values, index, words):
    with pytest.raises(BadValue, match=words) as bad:
        numbers(pa.array(values))
    assert bad.value.index == index


def test_lists_are_no_numbers():
    with pytest.raises(TypeError, match=r"list<.*> values are no numbers"):
        numbers(pa.array([[1.0]]))


@pytest.mark.parametrize(
    "column",
    [
        pa.array([1, 0]),
        pa.array([1.0, -0.0]),
        pa.array([True, False]),
        pa.array(["1", "0"]),
        pa.array(["1.0", "0.00"]),
        pa.array(["True", "False"]),
        pa.array([Decimal("1.00"), Decimal("0.00")]),
    ],
    ids=lambda column: f"{column.type} {column[0]}",
)
def test_labels(column):
    labels = zero_or_one(column)
    assert labels.dtype == np.int64
    assert labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    "values, index, words",
    [([0, 2], 1, "2"), ([1, None], 1, "None"), (["1", "yes"], 1, "'yes'")],
)
def test_what_is_no_label(values, index, words):
    with pytest.raises(BadValue, match=words) as bad:
        zero_or_one(pa.array(values))
    assert bad.value.index == index
