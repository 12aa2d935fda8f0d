"""Columns of times, whatever they are stored as: Arrow times, texts, numbers.

A time is in UTC unless it says otherwise. Texts are in the forms of `iso_times`, or in
the one form that the user names; any other is refused, since nobody can tell whether
01/02/2024 is in January. Numbers order as they stand: whether they count seconds or
milliseconds is nowhere asked.
"""

import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.values.arrow_kinds import BadValue, decoded, kind_of
from recap_tf.core.values.iso_times import (
    FORMS,
    NANOS,
    PER_SECOND,
    Moments,
    moments_of,
    parse_iso,
)
from recap_tf.core.values.time_form import TimeForm

# With a year of four digits or with slashes: 1.2.3 is a version.
_DATE_LIKE = re.compile(
    r"\s*(?:\d{1,2}/\d{1,2}/\d{2,4}|\d{4}([/.\-])\d{1,2}\1\d{1,2}"
    r"|\d{1,2}([.\-])\d{1,2}\2\d{4})(?:[ T].*)?",
    re.DOTALL,
)
# Beyond these seconds nanoseconds do not fit 64 bits.
_NANO_SECONDS = 2**63 // NANOS - 1


def order(column: pa.Array, form: TimeForm | None = None) -> np.ndarray:
    """Values that order as the times do: microseconds since 1970, or the numbers.

    Args:
        column: of times, texts or numbers.
        form: of texts; None for those of `iso_times`, and for texts of numbers.

    Returns:
        (rows,) int64, or float64 for numbers that are not whole.

    Raises:
        BadValue: a missing value, or one that is neither a number nor a time.
    """
    column = decoded(column)
    if column.null_count:
        index = pc.index(column.is_null(), True).as_py()
        raise BadValue(index, "a missing time")
    kind = kind_of(column.type)
    if kind == "text" and form is None:
        for number in (pa.int64(), pa.float64()):
            try:
                # A cast that fails in every row is slow: the first row is asked first.
                column.slice(0, 1).cast(number)
                return column.cast(number).to_numpy()
            except pa.ArrowInvalid:
                continue
    if kind in ("text", "time"):
        return _microseconds(moments(column, form))
    if kind == "integer":
        try:
            return column.cast(pa.int64()).to_numpy()
        except pa.ArrowInvalid:
            pass
    if kind in ("integer", "number"):
        # Beyond 2^53 some order is lost; no clock counts so far.
        return column.cast(pa.float64(), safe=False).to_numpy()
    if kind == "duration":
        return milliseconds(column)
    raise BadValue(0, f"no time: the column holds {column.type}")


def moments(column: pa.Array, form: TimeForm | None = None) -> Moments:
    """The times of a column of times or texts, with nothing rounded.

    Raises:
        BadValue: a text of another form.
    """
    column = decoded(column)
    if kind_of(column.type) == "time":
        return moments_of(column)
    trimmed = pc.utf8_trim_whitespace(column)
    times = form.parse(trimmed) if form else parse_iso(trimmed)
    wrong = column.is_valid().to_numpy(zero_copy_only=False) & ~times.valid
    if wrong.any():
        index = np.flatnonzero(wrong)[0]
        raise BadValue(index, unknown_form(column[int(index)].as_py(), form))
    return times


def timestamps(column: pa.Array, form: TimeForm | None = None) -> pa.Array:
    """The times as Arrow timestamps in UTC, to be compared with each other.

    In nanoseconds if that is exact and microseconds are not, else in microseconds.

    Raises:
        BadValue: a text of another form.
    """
    return as_timestamps(moments(column, form))


def as_timestamps(times: Moments) -> pa.Array:
    """Arrow timestamps without a zone, of which all are in UTC; see `timestamps`."""
    fine = times.valid & (times.nanos % 1000 != 0)
    near = np.abs(times.seconds[times.valid]) < _NANO_SECONDS
    if fine.any() and near.all():
        count = np.where(times.valid, times.seconds, 0) * NANOS + times.nanos
        return pa.array(count, mask=~times.valid).cast(pa.timestamp("ns"))
    count = _microseconds(times)
    return pa.array(count, mask=~times.valid).cast(pa.timestamp("us"))


def timestamp(text: str, form: TimeForm | None = None) -> pa.Scalar:
    """One time as the user typed it: in the form of the column, or as `iso_times` says.

    Raises:
        BadValue: it is in another form.
    """
    column = pa.array([text.strip()], pa.string())
    if form is not None and form.parse(column).valid[0]:
        return as_timestamps(form.parse(column))[0]
    return timestamps(column)[0]


def milliseconds(column: pa.Array, form: TimeForm | None = None) -> np.ndarray:
    """(rows,) float64: whole ms since 1970, or a duration's ms; NaN where missing.

    Args:
        column: of times, texts of times, durations, or times of day (since midnight).
        form: of texts.

    Raises:
        BadValue: a text of another form.
    """
    column = decoded(column)
    if kind_of(column.type) == "duration":
        count = column.cast(pa.int64()).to_numpy(zero_copy_only=False)
        return count.astype(np.float64) * (1000 / PER_SECOND[column.type.unit])
    times = moments(column, form)
    whole = times.seconds * 1000 + times.nanos // 1_000_000
    return np.where(times.valid, whole.astype(np.float64), np.nan)


def is_date_like(text: str) -> bool:
    """Whether a text looks like a date, in whatever form, known or not."""
    return _DATE_LIKE.fullmatch(text) is not None


def unknown_form(value: str, form: TimeForm | None = None) -> str:
    """What to say of a value that is no time: the value, and what would be one."""
    if form is not None:
        return f"{value!r}, which is no time in the form {form.form}"
    hint = "give the form, as in --time-format %d/%m/%Y"
    return f"{value!r}, which is no time that is known ({FORMS}); {hint}"


def _microseconds(times: Moments) -> np.ndarray:
    return np.where(times.valid, times.seconds, 0) * 1_000_000 + times.nanos // 1000
