"""One text per value, whatever type or file it was stored in.

Vocabularies, joins, groups and conditions compare these texts and nothing else, so
that a value from parquet, from CSV and from a command line is one value:

    7, 7.0, "7", "7.0", "7.00", decimal 7.00          7
    1.5, decimal 1.50                                 1.5
    0.00001, 1e-05, "1e-05", "1e-5"                   0.00001
    18446744073709551615 (uint64, decimal, text)      the same digits
    true, "true", "True", "TRUE"                      true
    2024-03-01 as date, timestamp, text               2024-03-01
    "2024-03-01 12:00:00+02:00", timestamps           2024-03-01T10:00:00Z
    b"de" as bytes                                    de
    a duration of 1.5 s, as milliseconds              1500

A text is rewritten only where it can mean nothing else, by what stands in it and not
by its neighbours, so that a value means the same in every file:

    -?WHOLE.000  loses its zeros: readers of tables write whole numbers so as soon as
                 one is missing in the column. WHOLE has no leading zero. "1.50" keeps
                 its zero: of versions, 1.10 and 1.1 are two.
    e+16, e-05   with a sign is a number in full. "1e5" stays: among hexadecimal ids it
                 is one of them.
    true, false  in one case throughout, or with a capital.
    dates with times, and times of day with a fraction.

All else stays as it is: "007", "0x10", "+7", " 7", "-0", "7.", ".5", "nan", "inf",
"1,5", "Yes". Where it is known what a column holds, `kind` says so, and its texts are
read as that: of numbers, "1.50", "+1.5" and "15e-1" are 1.5 then.
"""

import decimal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.values.arrow_kinds import (
    LISTS,
    decoded,
    kind_of,
    stored_type,
)
from recap_tf.core.values.iso_times import iso_texts, moments_of, parse_iso
from recap_tf.core.values.text_bytes import TextBytes, replaced

_ZEROS = r"^(-?(?:0|[1-9][0-9]*))\.0+$"
_TIME_OF_DAY = r"^([0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.0+|(\.[0-9]*[1-9])0+)$"
_SCIENTIFIC = r"^-?[0-9](?:\.[0-9]+)?[eE][+-][0-9]{1,3}$"
_PLAIN = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)$"
_WITH_EXPONENT = r"^[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)[eE][+-]?[0-9]+$"
# Of a plain number, one after another: +, zeros in front, a digit before the point,
# zeros behind, the point, the sign of 0.
_SHORTEST = (
    (r"^\+", ""),
    (r"^(-?)0+([0-9])", r"\1\2"),
    (r"^(-?)\.", r"\10."),
    (r"(\.[0-9]*?)0+$", r"\1"),
    (r"\.$", ""),
    (r"^-0$", "0"),
)
_WORDS = ("true", "True", "TRUE", "false", "False", "FALSE")
# Of a number that Arrow writes with an exponent: sign, digit, further ones, exponent.
_PARTS = r"^(?P<a>-?)(?P<b>[0-9])\.?(?P<c>[0-9]*)e\+?(?P<d>-?[0-9]+)$"
# Whole floats below fit int64.
_WHOLE = 2.0**63


def canonical_texts(column: pa.Array, kind: str | None = None) -> pa.Array:
    """The text of every value, null where it is missing.

    Args:
        column: of any kind but a list; see `arrow_kinds`.
        kind: what it holds according to whoever knows: texts and booleans of a column
            of "number" are read as numbers, 0 and 1 of "boolean" as booleans.

    Raises:
        BadValue: bytes that are no UTF-8.
        TypeError: a list, or a type that cannot be read.
    """
    half = pa.types.is_float16(stored_type(column.type))
    column = decoded(column)
    stored = kind_of(column.type)
    if stored in LISTS or stored == "other":
        raise TypeError(f"{column.type} values have no text.")
    if stored == "text":
        texts = _of_texts(column)
        if kind == "number":
            texts = _as_numbers(texts)
    elif stored == "integer":
        texts = _of_integers(column)
    elif stored == "number":
        if pa.types.is_decimal(column.type):
            texts = _of_decimals(column)
        else:
            texts = _of_halves(column) if half else _of_floats(column)
    elif stored == "time":
        texts = iso_texts(moments_of(column))
    elif stored == "duration":
        texts = _of_durations(column)
    else:
        texts = column.cast(pa.string())
    if kind == "boolean":
        texts = _renamed(texts, {"1": "true", "0": "false"})
    elif kind in ("number", "integer"):
        texts = _renamed(texts, {"true": "1", "false": "0"})
    return texts


def canonical_codes(
    column: pa.Array, kind: str | None = None
) -> tuple[np.ndarray, list[str]]:
    """(codes, values): the text of row i is values[codes[i]]; code -1 is missing.

    No two of `values` are the same. Arguments and errors as of `canonical_texts`.
    """
    column = decoded(column)
    try:
        encoded = column.dictionary_encode()
    except pa.ArrowNotImplementedError:
        encoded = canonical_texts(column, kind).dictionary_encode()
    codes = encoded.indices.fill_null(-1).to_numpy().astype(np.int64)
    merged = canonical_texts(encoded.dictionary, kind).dictionary_encode()
    values = merged.dictionary.to_pylist()
    if len(values) < len(encoded.dictionary):
        codes = np.append(merged.indices.fill_null(-1).to_numpy(), -1)[codes]
    return codes, values


def canonical_text(value: str, kind: str | None = None) -> str:
    """The text of one value, as typed on a command line."""
    return canonical_texts(pa.array([value], pa.string()), kind)[0].as_py()


def _of_texts(column: pa.Array) -> pa.Array:
    """Rewrites the few texts that are another spelling of a value."""
    text = TextBytes(column)
    lengths, first, last = text.lengths, text.at(0), text.at(-1)
    # Cheap tests of single bytes choose the rows that are worth a look.
    number = (first - np.uint8(ord("0")) < 10) | (first == ord("-"))
    pairs = (
        (number & (last == ord("0")) & (lengths > 2), _without_zeros),
        (number & (lengths > 3) & _has_exponent(text), _spelt_out),
        (
            np.isin(first, _codes("tTfF")) & ((lengths == 4) | (lengths == 5)),
            _one_spelling,
        ),
        (
            (lengths > 12) & (text.at(4) == ord("-")) & (text.at(7) == ord("-")),
            _in_utc,
        ),
    )
    there = column.is_valid().to_numpy(zero_copy_only=False)
    for candidates, rewrite in pairs:
        rows = np.flatnonzero(candidates & there)
        if len(rows):
            some = column.take(pa.array(rows))
            texts = rewrite(some)
            changed = pc.not_equal(texts, some).to_numpy(zero_copy_only=False)
            if changed.any():
                texts = texts.filter(pa.array(changed))
                column = replaced(column, rows[changed], texts)
    return column


def _has_exponent(text: TextBytes) -> np.ndarray:
    """Whether a sign stands two to four bytes from the end, with an e before it."""
    result = np.zeros(len(text.lengths), bool)
    for place in (-2, -3, -4):
        sign = np.isin(text.at(place), _codes("+-"))
        result |= sign & np.isin(text.at(place - 1), _codes("eE"))
    return result


def _without_zeros(texts: pa.Array) -> pa.Array:
    texts = pc.replace_substring_regex(texts, _ZEROS, r"\1")
    texts = pc.replace_substring_regex(texts, _TIME_OF_DAY, r"\1\2")
    return pc.if_else(pc.equal(texts, "-0"), "0", texts).cast(texts.type)


def _spelt_out(texts: pa.Array) -> pa.Array:
    return _through_floats(texts, pc.match_substring_regex(texts, _SCIENTIFIC))


def _one_spelling(texts: pa.Array) -> pa.Array:
    words = pc.is_in(texts, pa.array(_WORDS, texts.type))
    return pc.if_else(words, pc.ascii_lower(texts), texts)


def _in_utc(texts: pa.Array) -> pa.Array:
    moments = parse_iso(texts)
    return pc.coalesce(iso_texts(moments).cast(texts.type), texts)


def _as_numbers(texts: pa.Array) -> pa.Array:
    """Texts of a column of numbers: every spelling of a number is that number."""
    trimmed = pc.utf8_trim_whitespace(texts)
    plain = pc.match_substring_regex(trimmed, _PLAIN)
    shortest = trimmed
    for pattern, text in _SHORTEST:
        shortest = pc.replace_substring_regex(shortest, pattern, text)
    numbers = pc.match_substring_regex(trimmed, _WITH_EXPONENT)
    texts = pc.case_when(pc.make_struct(plain, numbers), shortest, trimmed, texts)
    return _through_floats(texts, numbers)


def _through_floats(texts: pa.Array, numbers: pa.Array) -> pa.Array:
    rows = _where(numbers)
    if not len(rows):
        return texts
    values = texts.take(pa.array(rows)).cast(pa.float64())
    return replaced(texts, rows, _of_floats(values))


def _of_integers(column: pa.Array) -> pa.Array:
    texts = column.cast(pa.string())
    if pa.types.is_decimal(column.type) and column.type.scale < 0:
        texts = _plain_decimals(texts)
    return texts


def _of_floats(column: pa.Array) -> pa.Array:
    """Whole numbers by all their digits, others by the fewest that read back."""
    size = pc.abs(column)
    whole = pc.equal(pc.trunc(column), column)
    short = pc.and_(whole, pc.less(size, _WHOLE))
    if pc.all(short).as_py():
        return column.cast(pa.int64()).cast(pa.string())
    digits = pc.if_else(short, column, pa.scalar(0, column.type)).cast(pa.int64())
    texts = pc.if_else(short, digits.cast(pa.string()), column.cast(pa.string()))
    texts = _without_exponents(texts)
    rows = _where(pc.and_(whole, pc.and_(pc.invert(short), pc.is_finite(column))))
    if len(rows):
        # Integers of 64 bits and more, each once: there are few, and fewer as ids.
        encoded = column.take(pa.array(rows)).dictionary_encode()
        words = [str(int(value)) for value in encoded.dictionary.to_pylist()]
        texts = replaced(texts, rows, pa.array(words).take(encoded.indices))
    return texts


def _without_exponents(texts: pa.Array) -> pa.Array:
    """Floats as Arrow writes them, with the point moved: 1.2e-7 -> 0.00000012."""
    rows = _where(pc.match_substring(texts, "e"))
    if not len(rows):
        return texts
    parts = pc.extract_regex(texts.take(pa.array(rows)), _PARTS)
    sign, first, rest, exponents = (pc.struct_field(parts, [i]) for i in range(4))
    digits = pc.binary_join_element_wise(first, rest, "")
    exponents = exponents.cast(pa.int64()).to_numpy()
    for exponent in np.unique(exponents).tolist():
        here = np.flatnonzero(exponents == exponent)
        some = digits.take(pa.array(here))
        if exponent < 0:
            whole = "0"
            fraction = pc.binary_join_element_wise("0" * (-exponent - 1), some, "")
        else:
            some = pc.utf8_rpad(some, exponent + 2, "0")
            whole = pc.utf8_slice_codeunits(some, 0, exponent + 1)
            fraction = pc.utf8_slice_codeunits(some, exponent + 1)
        number = pc.binary_join_element_wise(whole, fraction, ".")
        number = pc.binary_join_element_wise(sign.take(pa.array(here)), number, "")
        texts = replaced(texts, rows[here], number)
    return texts


def _of_halves(column: pa.Array) -> pa.Array:
    halves = column.to_numpy(zero_copy_only=False).astype(np.float16)
    values, places = np.unique(halves, return_inverse=True)
    words = [np.format_float_positional(v, unique=True, trim="-") for v in values]
    texts = pa.array(words, pa.string()).take(pa.array(places, mask=np.isnan(halves)))
    return _renamed(texts, {"-0": "0"})


def _of_decimals(column: pa.Array) -> pa.Array:
    texts = _plain_decimals(column.cast(pa.string()))
    return pc.ascii_rtrim(pc.ascii_rtrim(texts, "0"), ".")


def _plain_decimals(texts: pa.Array) -> pa.Array:
    """Decimals as Arrow writes them, without exponents: 1.20E-7 -> 0.000000120."""
    rows = _where(pc.match_substring(texts, "E"))
    if not len(rows):
        return texts
    encoded = texts.take(pa.array(rows)).dictionary_encode()
    words = [f"{decimal.Decimal(text):f}" for text in encoded.dictionary.to_pylist()]
    return replaced(texts, rows, pa.array(words).take(encoded.indices))


def _of_durations(column: pa.Array) -> pa.Array:
    """Milliseconds; a time of day as HH:MM:SS with its fraction."""
    if pa.types.is_time(column.type):
        return _without_zeros(column.cast(pa.string()))
    count = column.cast(pa.int64()).cast(pa.decimal128(38, 0))
    # A decimal of another scale is the same number with its point moved.
    scale = {"s": -3, "ms": 0, "us": 3, "ns": 6}[column.type.unit]
    kind = pa.decimal128(38, scale)
    moved = pa.Array.from_buffers(kind, len(count), count.buffers())
    return (_of_decimals if scale > 0 else _of_integers)(moved)


def _renamed(texts: pa.Array, names: dict[str, str]) -> pa.Array:
    for old, new in names.items():
        texts = pc.if_else(pc.equal(texts, old), pa.scalar(new, texts.type), texts)
    return texts


def _where(mask: pa.Array) -> np.ndarray:
    """Numbers of the rows where `mask` is true."""
    return np.flatnonzero(mask.fill_null(False).to_numpy(zero_copy_only=False))


def _codes(letters: str) -> np.ndarray:
    return np.frombuffer(letters.encode(), np.uint8)
