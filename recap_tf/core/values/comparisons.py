"""Values of a column against what a user typed: == != < > <= >=.

Equal is what has the same canonical text, so that 5, 5.0 and "5.0" are equal in every
file. What comes before what depends on the kind: numbers as numbers, times as times;
texts as numbers if a number was typed, as times if a time was, else letter by letter.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.command import UserError
from recap_tf.core.values.arrow_kinds import (
    LISTS,
    BadValue,
    advice,
    decoded,
    kind_of,
)
from recap_tf.core.values.canonical_text import (
    canonical_codes,
    canonical_text,
    canonical_texts,
)
from recap_tf.core.values.numeric_values import numbers
from recap_tf.core.values.time_form import TimeForm
from recap_tf.core.values.time_values import (
    is_date_like,
    timestamp,
    timestamps,
    unknown_form,
)

ORDERS = {
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    ">": pc.greater,
    "<": pc.less,
}


def compare(
    name: str,
    column: pa.Array,
    operator: str,
    typed: Sequence[str],
    *,
    kind: str | None = None,
    form: TimeForm | None = None,
) -> pa.Array:
    """Boolean per value of `column`; null where it is missing.

    Args:
        name: the column's, for messages.
        column: its values.
        operator: == (any of `typed`), != (none of them), >=, <=, > or < (the one).
        typed: values as typed; one in quotation marks is compared with its blanks.
        kind: what the column holds according to whoever knows; see `canonical_text`.
        form: of texts of times.

    Raises:
        UserError: the column cannot be compared, or not with such a value.
        BadValue: a value of the column is none of the kind that was typed.
    """
    column = decoded(column)
    stored = kind_of(column.type)
    if stored in LISTS or stored == "other":
        raise UserError(
            advice(name, column.type)
            or f"Column {name!r} cannot be compared: it holds {column.type}."
        )
    if operator in ("==", "!="):
        return _is_one_of(name, column, stored, operator, typed, kind, form)
    (text,) = map(bare, typed)
    order = ORDERS[operator]
    if stored == "time":
        return order(timestamps(column), _time(name, column, text, form))
    if stored == "text":
        return _order_of_texts(column, order, text, form)
    if stored == "null":
        return pa.nulls(len(column), pa.bool_())
    return _order_of_numbers(name, column, order, text)


def is_quoted(value: str) -> bool:
    """Whether a typed value stands in quotation marks."""
    value = value.strip()
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def bare(value: str) -> str:
    """A typed value without quotation marks, or without the blanks around it."""
    return value.strip()[1:-1] if is_quoted(value) else value.strip()


def _is_one_of(
    name: str,
    column: pa.Array,
    stored: str,
    operator: str,
    typed: Sequence[str],
    kind: str | None,
    form: TimeForm | None,
) -> pa.Array:
    kind = kind or stored
    exact, loose = [], []
    for value in typed:
        text = bare(value)
        if stored == "time":
            stamp = pa.array([_time(name, column, text, form)])
            text = canonical_texts(stamp)[0].as_py()
        else:
            text = canonical_text(text, kind)
            numeric = stored in ("integer", "number", "duration")
            known = _number(text) is not None if numeric else text in ("true", "false")
            if (numeric or stored == "boolean") and not known:
                raise _no_such_value(name, column, value)
        (exact if is_quoted(value) else loose).append(text)
    codes, values = canonical_codes(column, kind)
    texts = pa.array(values, pa.string())
    trimmed = canonical_texts(pc.utf8_trim_whitespace(texts), kind)
    equal = pc.or_(
        pc.is_in(texts, pa.array(exact, pa.string())),
        pc.is_in(trimmed, pa.array(loose, pa.string())),
    )
    equal = equal.to_numpy(zero_copy_only=False) ^ (operator == "!=")
    return pa.array(np.append(equal, False)[codes], mask=codes < 0)


def _order_of_texts(column, order, text: str, form: TimeForm | None) -> pa.Array:
    number = _number(text)
    if number is not None:
        return order(pa.array(numbers(column), from_pandas=True), number)
    if is_date_like(text) or form is not None:
        try:
            stamp = timestamp(text, form)
        except BadValue as error:
            raise UserError(f"A condition says {error}.") from error
        return order(timestamps(column, form), stamp)
    return order(column, pa.scalar(text, column.type))


def _order_of_numbers(name: str, column: pa.Array, order, text: str) -> pa.Array:
    words = {"true": "1", "false": "0"}
    text = words.get(text.lower(), text)
    number = _number(text)
    if number is None:
        raise _no_such_value(name, column, text)
    if pa.types.is_boolean(column.type):
        column = column.cast(pa.int8())
    # 64-bit ids would lose digits as float64: whole numbers stay whole.
    if isinstance(number, int) and kind_of(column.type) == "integer":
        for kind in (column.type, pa.decimal128(38, 0), pa.decimal256(76, 0)):
            try:
                return order(column.cast(kind), pa.scalar(number).cast(kind))
            except (pa.ArrowInvalid, OverflowError):
                continue
    values = pa.array(numbers(column), from_pandas=True)
    return order(values, float(number))


def _time(name: str, column: pa.Array, text: str, form: TimeForm | None) -> pa.Scalar:
    try:
        return timestamp(text, form)
    except BadValue as error:
        raise UserError(
            f"Column {name!r} holds {column.type}, which cannot be compared with "
            f"{unknown_form(text)}."
        ) from error


def _number(text: str) -> int | float | None:
    if "_" in text:
        return None
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return None


def _no_such_value(name: str, column: pa.Array, value: str) -> UserError:
    return UserError(
        f"Column {name!r} holds {column.type}; {bare(value)!r} is no such value."
    )
