"""Times of any column: what they order as, what they compare with, what is refused."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_tf.core.command import UserError
from recap_tf.core.values.arrow_kinds import BadValue
from recap_tf.core.values.time_form import TimeForm
from recap_tf.core.values.time_values import (
    is_date_like,
    milliseconds,
    order,
    timestamp,
    timestamps,
)

NOON = datetime.datetime(2024, 3, 1, 12)
NOON_US = 1_709_294_400_000_000


@pytest.mark.parametrize(
    "column",
    [
        pa.array([NOON], pa.timestamp("s")),
        pa.array([NOON], pa.timestamp("ns")),
        pa.array([NOON_US]).cast(pa.timestamp("us", tz="Asia/Tokyo")),
        pa.array(["2024-03-01 12:00:00"]),
        pa.array([" 2024-03-01T12:00Z "]),
        pa.array([b"2024-03-01 14:00:00+02:00"]),
        pa.array(["2024-03-01T12:00:00.000000000Z"]).dictionary_encode(),
    ],
    ids=["s", "ns", "zone", "text", "blanks", "offset in bytes", "dictionary"],
)
def test_one_time_however_it_is_stored(column):
    assert order(column).tolist() == [NOON_US]
    assert milliseconds(column).tolist() == [NOON_US / 1000]
    assert timestamps(column)[0].as_py() == NOON
    assert timestamps(column)[0].as_py() > timestamp("2024-03-01").as_py()


@pytest.mark.parametrize(
    "column, expected",
    [
        (pa.array([5, 7]), [5, 7]),
        (pa.array(["5", "7"]), [5, 7]),
        (pa.array(["5.5", "7"]), [5.5, 7.0]),
        (pa.array([5.5, 7.0], pa.float32()), [5.5, 7.0]),
        (pa.array([5, 7], pa.uint64()), [5, 7]),
        (pa.array([5, 7]).cast(pa.decimal128(38, 0)), [5, 7]),
        (pa.array([1, 2**63], pa.uint64()), [1.0, 2.0**63]),
        (pa.array([1, 2], pa.duration("s")), [1000.0, 2000.0]),
    ],
    ids=lambda value: str(value.type) if isinstance(value, pa.Array) else None,
)
def test_numbers_order_as_they_stand(column, expected):
    values = order(column)
    assert values.tolist() == expected
    assert values.dtype == (np.int64 if isinstance(expected[0], int) else np.float64)


@pytest.mark.parametrize(
    "values, index, words",
    [
        (["2024-03-01", None], 1, "a missing time"),
        (["2024-03-01", "01/02/2024"], 1, r"'01/02/2024', which is no time that is "),
        (["yesterday"], 0, "2024-03-01T10:00:00Z.*--time-format %d/%m/%Y"),
        (["2024-02-30"], 0, "'2024-02-30', which is no time"),
    ],
)
def test_what_is_no_time_is_named_with_the_forms(values, index, words):
    with pytest.raises(BadValue, match=words) as bad:
        order(pa.array(values))
    assert bad.value.index == index


def test_a_column_that_holds_no_times():
    with pytest.raises(BadValue, match="no time: the column holds bool"):
        order(pa.array([True]))


def test_milliseconds_of_missing_times_durations_and_times_of_day():
    column = pa.array(["1970-01-01T00:00:01.5Z", None])
    np.testing.assert_array_equal(milliseconds(column), [1500, np.nan])
    column = pa.array([1500, None], pa.duration("us"))
    np.testing.assert_array_equal(milliseconds(column), [1.5, np.nan])
    assert milliseconds(pa.array([datetime.time(1, 0, 0, 5000)])).tolist() == [3600005]


def test_nanoseconds_are_compared_where_they_matter():
    column = timestamps(pa.array(["2024-03-01T10:00:00.123456789Z", None]))
    assert column.type == pa.timestamp("ns")
    assert timestamps(pa.array(["2024-03-01T10:00:00.123456Z"])).type.unit == "us"
    # 9999 does not fit nanoseconds.
    far = timestamps(pa.array(["9999-01-01", "2024-03-01T10:00:00.123456789Z"]))
    assert far.type.unit == "us"


@pytest.mark.parametrize(
    "form, text, expected",
    [
        ("%d/%m/%Y", "01/02/2024", "2024-02-01"),
        ("%m/%d/%Y", "1/2/2024", "2024-01-02"),
        ("%D %R", "03/01/24 13:05", "2024-03-01T13:05"),
        ("%d-%b-%y %I:%M:%S %p", "01-Mar-24 12:05:06 am", "2024-03-01T00:05:06"),
        ("%B %d, %Y %I %p", "March 1, 1999 12 PM", "1999-03-01T12:00"),
        ("%Y%m%d%H%M%S", "20240301100203", "2024-03-01T10:02:03"),
        ("%F %T.%f%z", "2024-03-01 10:00:00.25+0200", "2024-03-01T08:00:00.250"),
        ("%d.%m.%y 100%%", "1.2.70 100%", "1970-02-01"),
    ],
)
def test_forms_that_are_named(form, text, expected):
    column = pa.array(["?", text, None])
    moments = TimeForm(form).parse(column)
    assert moments.valid.tolist() == [False, True, False]
    (seconds,), (nanos,) = moments.seconds[moments.valid], moments.nanos[moments.valid]
    read = datetime.datetime(1970, 1, 1) + datetime.timedelta(
        seconds=int(seconds), microseconds=int(nanos) // 1000
    )
    assert read == datetime.datetime.fromisoformat(expected)


@given(
    st.lists(
        st.datetimes(datetime.datetime(1969, 1, 1), datetime.datetime(2068, 1, 1))
    ),
    st.sampled_from(["%d/%m/%Y %H:%M:%S", "%y%m%d %I:%M:%S %p", "%b %d %Y %T.%f"]),
)
def test_forms_read_what_strftime_wrote(times, form):
    if "%f" not in form:
        times = [time.replace(microsecond=0) for time in times]
    column = pa.array([time.strftime(form) for time in times], pa.string())
    expected = pa.array(times, pa.timestamp("us"))
    assert timestamps(column, TimeForm(form)).cast(pa.timestamp("us")).equals(expected)


@pytest.mark.parametrize("text", ["32/01/2024", "29/02/2023", "1/1/24", "2024-03-01"])
def test_a_text_in_another_form_than_the_one_named(text):
    with pytest.raises(
        BadValue, match=f"'{text}', which is no time in the form %d/%m/"
    ):
        timestamps(pa.array([text]), TimeForm("%d/%m/%Y"))


@pytest.mark.parametrize(
    "form, words",
    [
        ("%d/%m", "lacks the year: %Y or %y"),
        ("%Y-%d", "lacks the month: %m or %b or %B"),
        ("%Y-%m", "lacks the day: %d"),
        ("%Y-%j", "%j is not known; known are %Y"),
        ("%Y-%m-%d %d", "%d stands twice"),
        ("%Y-%m-%d%", "% is not known"),
    ],
)
def test_forms_that_are_none(form, words):
    with pytest.raises(UserError, match=f"--time-format .*{words}"):
        TimeForm(form)


def test_a_typed_time_is_in_the_columns_form_or_iso():
    form = TimeForm("%d/%m/%Y")
    assert timestamp(" 10/03/2024 ", form) == timestamp("2024-03-10", form)
    with pytest.raises(BadValue, match="01/02/2024"):
        timestamp("01/02/2024")


@pytest.mark.parametrize(
    "text, expected",
    [
        *((t, True) for t in ("01/02/2024", "1/2/24", "1.2.2024", "2024-03-01T10:00Z")),
        *((t, True) for t in ("2024/03/01 10:00", " 2024-3-1", "1-2-2024")),
        *((t, False) for t in ("2024", "1.5", "10:00", "1/2", "a/b/c", "1.2.3", "")),
        *((t, False) for t in ("1.2.3.4", "10.15.7", "2024-01", "1/2/3", "1-2.2024")),
    ],
)
def test_date_like(text, expected):
    assert is_date_like(text) is expected
