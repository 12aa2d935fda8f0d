"""Texts of times in a form that the user names: %d/%m/%Y %H:%M."""

import re
from collections.abc import Callable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.command import UserError
from recap_tf.core.values.iso_times import DAY_SECONDS, Moments, days_since_1970

_NAMES = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
_PARTS = {
    "Y": r"[0-9]{4}",
    "y": r"[0-9]{2}",
    "m": r"[0-9]{1,2}",
    "b": rf"(?i:{_NAMES})",
    "B": rf"(?i:{_NAMES})[a-z]*",
    "d": r"[0-9]{1,2}",
    "H": r"[0-9]{1,2}",
    "I": r"[0-9]{1,2}",
    "M": r"[0-9]{1,2}",
    "S": r"[0-9]{1,2}",
    "f": r"[0-9]{1,9}",
    "p": r"(?i:am|pm)",
    "z": r"Z|[+-][0-9]{2}(?::?[0-9]{2})?",
}
_LONGER = {"%F": "%Y-%m-%d", "%T": "%H:%M:%S", "%R": "%H:%M", "%D": "%m/%d/%y"}


class TimeForm:
    """How times are written, in the letters of Python's strptime.

    %Y %y (1969 to 2068) %m %b %B (English) %d %H %I %p %M %S %f (1 to 9 digits) %z (Z,
    +02:00, +0200, +02), %F %T %R %D. Without %z a time is in UTC.

    Args:
        form: "%d/%m/%Y %H:%M"; it must say year, month and day.
        flag: what the user calls it.

    Raises:
        UserError: an unknown letter, one that stands twice, or no whole date.
    """

    def __init__(self, form: str, flag: str = "--time-format"):
        self.form = form
        for short, long in _LONGER.items():
            form = form.replace(short, long)
        letters, pattern = [], ""
        for piece in re.findall(r"%.?|[^%]+", form):
            if piece[0] != "%" or piece == "%%":
                pattern += re.escape(piece.replace("%%", "%"))
                continue
            letter = piece[1:]
            if letter not in _PARTS or letter in letters:
                problem = "stands twice" if letter in letters else "is not known"
                known = " ".join(f"%{known}" for known in _PARTS)
                raise UserError(
                    f"{flag} {self.form!r}: {piece} {problem}; known are {known}"
                )
            letters.append(letter)
            pattern += f"(?P<{letter}>{_PARTS[letter]})"
        for needed, what in (("Yy", "year"), ("mbB", "month"), ("d", "day")):
            if not set(needed) & set(letters):
                raise UserError(
                    f"{flag} {self.form!r} lacks the {what}: "
                    f"{' or '.join(f'%{letter}' for letter in needed)}."
                )
        self._pattern = f"^{pattern}$"

    def parse(self, column: pa.Array) -> Moments:
        """The times of texts; `valid` is false for a text of another form."""
        fields = _Fields(pc.extract_regex(column, self._pattern))
        good = fields.parts.is_valid().to_numpy(zero_copy_only=False)
        if "Y" in fields.letters:
            year = fields.number("Y")
        else:
            year = fields.number("y")
            year = year + np.where(year < 69, 2000, 1900)
        if "m" in fields.letters:
            month = fields.number("m")
        else:
            month = fields.looked_up("b" if "b" in fields.letters else "B", _month)
        days, dates = days_since_1970(year, month, fields.number("d"))
        hour, minute, second = map(fields.number, "HMS")
        good &= dates & (hour < 24) & (minute < 60) & (second < 60)
        if "I" in fields.letters:
            hour = fields.number("I")
            good &= (hour >= 1) & (hour <= 12)
            hour = hour % 12 + fields.looked_up("p", {"AM": 0, "PM": 12}.get)
        clock = hour * 3600 + minute * 60 + second
        clock -= fields.looked_up("z", _seconds_east)
        return Moments(days * DAY_SECONDS + clock, fields.nanos(), good)


class _Fields:
    """What stands in the text for each letter of the form.

    Args:
        parts: a struct array with a text field per letter, null where nothing matched.
    """

    def __init__(self, parts: pa.StructArray):
        self.parts = parts
        self.letters = [parts.type.field(i).name for i in range(parts.type.num_fields)]

    def number(self, letter: str) -> np.ndarray:
        """(rows,) int64; 0 where the form lacks the letter, 1 where nothing matched."""
        if letter not in self.letters:
            return np.zeros(len(self.parts), np.int64)
        return self._texts(letter).fill_null("1").cast(pa.int64()).to_numpy()

    def looked_up(self, letter: str, number: Callable[[str], int]) -> np.ndarray:
        """(rows,) int64: `number` of each text in capitals; there are few of them."""
        if letter not in self.letters:
            return np.zeros(len(self.parts), np.int64)
        encoded = pc.utf8_upper(self._texts(letter)).dictionary_encode()
        numbers = [number(text) for text in encoded.dictionary.to_pylist()]
        codes = encoded.indices.fill_null(-1).to_numpy()
        return np.array([*numbers, 0], np.int64)[codes]

    def nanos(self) -> np.ndarray:
        """(rows,) int64 of %f."""
        if "f" not in self.letters:
            return np.zeros(len(self.parts), np.int64)
        digits = pc.utf8_rpad(self._texts("f").fill_null("0"), 9, "0")
        return digits.cast(pa.int64()).to_numpy()

    def _texts(self, letter: str) -> pa.Array:
        return pc.struct_field(self.parts, [self.letters.index(letter)])


def _month(name: str) -> int:
    return _NAMES.split("|").index(name[:3].lower()) + 1


def _seconds_east(zone: str) -> int:
    if zone == "Z":
        return 0
    digits = zone[1:].replace(":", "").ljust(4, "0")
    east = int(digits[:2]) * 3600 + int(digits[2:]) * 60
    return -east if zone[0] == "-" else east
