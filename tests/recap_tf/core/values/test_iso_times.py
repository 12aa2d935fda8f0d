"""ISO 8601 texts <-> seconds and nanoseconds, against datetime and Arrow."""

import datetime

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recap_tf.core.values.iso_times import Moments, iso_texts, moments_of, parse_iso

UTC = datetime.UTC


@pytest.mark.parametrize(
    "text, seconds, nanos",
    [
        ("1970-01-01", 0, 0),
        ("1970-01-02 00:00", 86_400, 0),
        ("1970-01-01T01", 3_600, 0),
        ("1970-01-01T00:01:01", 61, 0),
        ("1970-01-01 00:00:00.5", 0, 500_000_000),
        ("1970-01-01 00:00:00.123456789Z", 0, 123_456_789),
        ("1970-01-01T02:00:00+02:00", 0, 0),
        ("1970-01-01T02:00:00.25+0200", 0, 250_000_000),
        ("1969-12-31 22:30-0130", 0, 0),
        ("1969-12-31T22:00-02", 0, 0),
        ("1969-12-31T23:59:59.75Z", -1, 750_000_000),
        ("2000-02-29", 951_782_400, 0),
        ("0000-01-01", -62_167_219_200, 0),
        ("9999-12-31T23:59:59", 253_402_300_799, 0),
    ],
)
def test_forms(text, seconds, nanos):
    for column in (pa.array([text]), pa.array(["", text, None], pa.large_string())):
        moments = parse_iso(column)
        (row,) = np.flatnonzero(moments.valid)
        assert (moments.seconds[row], moments.nanos[row]) == (seconds, nanos)


@pytest.mark.parametrize(
    "text",
    [
        *("", "x", "2024", "2024-03", "20240301", "2024-3-1", "01/02/2024"),
        *("2024-02-30", "2023-02-29", "1900-02-29", "2024-00-10", "2024-13-01"),
        *("2024-03-01 ", "2024-03-01X10:00", "2024-03-01 1", "2024-03-01 10:"),
        *("2024-03-01 10:0", "2024-03-01 10:00:", "2024-03-01 10:00:0"),
        *("2024-03-01 24:00", "2024-03-01 10:60", "2024-03-01 10:00:60"),
        *("2024-03-01 10:00:00.", "2024-03-01 10:00:00.1234567890"),
        *("2024-03-01 10:00:00,5", "2024-03-01 10:00:00.5x", "2024-03-01+02:00"),
        *("2024-03-01 10:00+2", "2024-03-01 10:00+24:00", "2024-03-01 10:00+02:60"),
        *("2024-03-01 10:00z", "12024-03-01", "\uff12\uff10\uff12\uff14-03-01"),
    ],
)
def test_no_times(text):
    assert not parse_iso(pa.array([text, "2024-03-01"])).valid[0]


TIMES = st.datetimes(datetime.datetime(1, 1, 2), datetime.datetime(9999, 12, 30))
OFFSETS = st.integers(-23 * 60, 23 * 60)


@given(st.lists(st.tuples(TIMES, OFFSETS), min_size=1))
def test_datetimes_come_back(values):
    zones = [datetime.timezone(datetime.timedelta(minutes=east)) for _, east in values]
    times = [
        time.replace(tzinfo=zone) for (time, _), zone in zip(values, zones, strict=True)
    ]
    moments = parse_iso(pa.array([time.isoformat(" ") for time in times]))
    assert moments.valid.all()
    for time, text in zip(times, iso_texts(moments).to_pylist(), strict=True):
        assert text.endswith("Z") or len(text) == 10
        read = datetime.datetime.fromisoformat(text)
        assert read.replace(tzinfo=UTC) == time


@given(st.lists(TIMES), st.sampled_from(["s", "ms", "us"]))
def test_texts_of_arrow_are_read_as_arrow_does(times, unit):
    column = pa.array([t.replace(microsecond=0) for t in times], pa.timestamp(unit))
    moments = parse_iso(column.cast(pa.string()))
    expected = moments_of(column)
    np.testing.assert_array_equal(moments.seconds, expected.seconds)
    assert moments.valid.all()


@given(st.lists(st.integers(-(2**63), 2**63 - 1)))
def test_nanoseconds_are_exact(counts):
    moments = moments_of(pa.array(counts, pa.int64()).cast(pa.timestamp("ns")))
    read = parse_iso(iso_texts(moments))
    both = zip(read.seconds.tolist(), read.nanos.tolist(), strict=True)
    assert [s * 10**9 + n for s, n in both] == counts


def test_midnight_is_a_date_and_far_years_are_seconds():
    far = 10**15
    moments = Moments(
        np.array([0, 86_400, 1, far, 5]),
        np.array([0, 0, 0, 0, 100]),
        np.array([True, True, True, True, False]),
    )
    assert iso_texts(moments).to_pylist() == [
        "1970-01-01",
        "1970-01-02",
        "1970-01-01T00:00:01Z",
        "1000000000000000s",
        None,
    ]
    assert (
        iso_texts(Moments(*np.zeros((2, 0), int), np.zeros(0, bool))).to_pylist() == []
    )
