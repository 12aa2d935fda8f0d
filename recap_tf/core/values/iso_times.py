"""Texts of times as ISO 8601 writes them <-> seconds and nanoseconds since 1970."""

import dataclasses

import numpy as np
import pyarrow as pa

from recap_tf.core.values.text_bytes import TextBytes, buffers, replaced, texts_of

NANOS = 1_000_000_000
DAY_SECONDS = 86_400
PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": NANOS}
FORMS = (
    "2024-03-01, 2024-03-01 10:00, 2024-03-01T10:00:00.5, 2024-03-01T10:00:00Z, "
    "2024-03-01 10:00:00+02:00"
)
_DAYS_BEFORE = np.cumsum([0, 0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30])
_DAYS_IN = np.array([0, 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31])
# Days from 0000-01-01 to 1970-01-01.
_EPOCH_DAYS = 719_528
# First and last second whose year has four digits.
_LEAST, _MOST = -62_167_219_200, 253_402_300_799


@dataclasses.dataclass(frozen=True)
class Moments:
    """Times, with nothing rounded.

    Args:
        seconds: (rows,) int64, whole seconds since 1970 in UTC, rounded down.
        nanos: (rows,) int64 in [0, 1e9), what is left.
        valid: (rows,) bool, false where there is no time.
    """

    seconds: np.ndarray
    nanos: np.ndarray
    valid: np.ndarray

    def __len__(self) -> int:
        return len(self.seconds)


def parse_iso(column: pa.Array) -> Moments:
    """The times of texts; `valid` is false for a text of no such form.

    Date; date and time, with T or a blank between them: hours, minutes, seconds, up
    to nine digits of a fraction; then Z or an offset (+02:00, +0200, +02). A text
    without one is in UTC.

    Args:
        column: a text array, without blanks around the values.
    """
    text = TextBytes(column)
    dated = text.lengths == 10
    seconds, good = _dates(text)
    good &= dated | np.isin(text.at(10), _codes("T "))
    good &= column.is_valid().to_numpy(zero_copy_only=False)
    nanos = np.zeros(len(column), np.int64)
    rows = np.flatnonzero(good & ~dated)
    if len(rows):
        clock, nanos[rows], good[rows] = _clocks(TextBytes(column.take(rows)))
        seconds[rows] += clock
    return Moments(seconds, nanos, good)


def moments_of(column: pa.Array) -> Moments:
    """The times of an Arrow column of dates or timestamps; without a zone, in UTC."""
    valid = column.is_valid().to_numpy(zero_copy_only=False)
    if pa.types.is_date32(column.type):
        days = column.cast(pa.int32()).fill_null(0).to_numpy().astype(np.int64)
        return Moments(days * DAY_SECONDS, np.zeros(len(days), np.int64), valid)
    unit = "ms" if pa.types.is_date64(column.type) else column.type.unit
    count = column.cast(pa.int64()).fill_null(0).to_numpy()
    per_second = PER_SECOND[unit]
    seconds, rest = np.divmod(count, per_second)
    return Moments(seconds, rest * (NANOS // per_second), valid)


def iso_texts(moments: Moments) -> pa.Array:
    """One text per moment: 2024-03-01T10:00:00.5Z, and 2024-03-01 at midnight.

    Midnight is the date alone since that is how a column of dates becomes text once
    it was read as timestamps. A year that has not four digits gives the whole seconds
    since 1970 followed by "s".
    """
    rows = len(moments)
    shown = np.clip(moments.seconds, _LEAST, _MOST)
    stamps = pa.array(shown.astype("datetime64[s]")).cast(pa.string())
    letters = np.empty((rows, 30), np.uint8)
    offsets, data = buffers(stamps)
    letters[:, :19] = data[offsets[0] : offsets[-1]].reshape(rows, 19)
    letters[:, 10] = ord("T")
    ends = np.full(rows, 19)
    fraction = moments.nanos
    if fraction.any():
        letters[:, 19] = ord(".")
        for place in range(28, 19, -1):
            fraction, digit = np.divmod(fraction, 10)
            letters[:, place] = digit + ord("0")
            # The first digit from the right that is not 0 is the last one shown.
            ends = np.where((ends == 19) & (digit > 0), place + 1, ends)
    letters[np.arange(rows), ends] = ord("Z")
    midnight = (shown % DAY_SECONDS == 0) & (moments.nanos == 0)
    texts = texts_of(letters, np.where(midnight, 10, ends + 1), moments.valid)
    far = np.flatnonzero((shown != moments.seconds) & moments.valid)
    if len(far):
        words = [f"{second}s" for second in moments.seconds[far].tolist()]
        texts = replaced(texts, far, pa.array(words))
    return texts


def days_since_1970(
    year: np.ndarray, month: np.ndarray, day: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(days, whether there is such a date) of years from 0 on, in today's calendar."""
    good = (month >= 1) & (month <= 12)
    month = np.where(good, month, 1)
    leap = (year % 4 == 0) & ((year % 100 != 0) | (year % 400 == 0))
    good &= (day >= 1) & (day <= _DAYS_IN[month] + (leap & (month == 2)))
    leap_days = (year + 3) // 4 - (year + 99) // 100 + (year + 399) // 400
    days = 365 * year.astype(np.int64) + leap_days - _EPOCH_DAYS
    days += _DAYS_BEFORE[month] + (leap & (month > 2)) + day - 1
    return days, good


def _dates(text: TextBytes) -> tuple[np.ndarray, np.ndarray]:
    """(seconds at the start of the day, whether a date stands there) of each row."""
    year, years = text.digits(0, 4)
    month, months = text.digits(5, 2)
    day, days = text.digits(8, 2)
    count, good = days_since_1970(year, month, day)
    good &= years & months & days
    good &= (text.at(4) == ord("-")) & (text.at(7) == ord("-"))
    return count * DAY_SECONDS, good


def _clocks(text: TextBytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(seconds since the day's start in UTC, nanoseconds, whether it is a time)."""
    offset, width, good = _offsets(text)
    # Where the clock ends and the zone begins: behind hours, minutes or seconds.
    end = text.lengths - width
    clock = -offset.astype(np.int64)
    for first, limit, unit in ((11, 24, 3600), (14, 60, 60), (17, 60, 1)):
        number, fine = text.digits(first, 2)
        fine &= number < limit
        if first > 11:
            fine &= text.at(first - 1) == ord(":")
        there = end >= first + 2
        # Hours must be there; nothing may end within a number.
        good &= np.where(there, fine, (end == first - 1) | (end == first - 4))
        good &= there if first == 11 else True
        clock += np.where(there, number, 0) * unit
    nanos = np.zeros(len(end), np.int64)
    longer = end > 19
    if (longer & good).any():
        good &= ~longer | ((text.at(19) == ord(".")) & (end > 20) & (end <= 29))
        for place in range(20, 29):
            digit = text.at(place) - np.uint8(ord("0"))
            there = longer & (place < end)
            good &= ~there | (digit < 10)
            nanos = nanos * 10 + np.where(there & (digit < 10), digit, 0)
    return clock, nanos, good


def _offsets(text: TextBytes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(seconds east of UTC, bytes that the zone takes, whether it is sound)."""
    lengths = text.lengths
    offset = np.zeros(len(lengths), np.int32)
    width = np.where(text.at(-1) == ord("Z"), 1, 0)
    good = np.ones(len(lengths), bool)
    # +02:00, +0200, +02: where the sign stands, and where hours and minutes do.
    for size, hours, minutes in ((6, -5, -2), (5, -4, -2), (3, -2, None)):
        sign = text.at(-size)
        here = np.isin(sign, _codes("+-")) & (lengths >= 13 + size) & (width == 0)
        if not here.any():
            continue
        if size == 6:
            here &= text.at(-3) == ord(":")
        value, fine = _two(text, hours)
        east = value * 3600
        good &= ~here | (fine & (value < 24))
        if minutes is not None:
            value, fine = _two(text, minutes)
            east += value * 60
            good &= ~here | (fine & (value < 60))
        east = np.where(sign == ord("-"), -east, east)
        offset = np.where(here, east, offset)
        width = np.where(here, size, width)
    return offset, width, good


def _two(text: TextBytes, index: int) -> tuple[np.ndarray, np.ndarray]:
    tens = text.at(index) - np.uint8(ord("0"))
    ones = text.at(index + 1) - np.uint8(ord("0"))
    return tens.astype(np.int32) * 10 + ones, (tens < 10) & (ones < 10)


def _codes(letters: str) -> np.ndarray:
    return np.frombuffer(letters.encode(), np.uint8)
