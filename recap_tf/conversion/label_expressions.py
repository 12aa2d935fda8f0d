"""The labels of `--labels`: columns of 0 and 1, or conditions on columns."""

import dataclasses
import re
from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from recap_tf.conversion.expressions import OPERATOR, Expression, parse_expression
from recap_tf.core.command import UserError
from recap_tf.core.values.numeric_values import zero_or_one
from recap_tf.core.values.time_form import TimeForm

_NAMED = re.compile(r"\s*([A-Za-z_][\w.]*)\s*:(.*)", re.DOTALL)


@dataclasses.dataclass(frozen=True)
class Label:
    """A task's label: a column of 0 and 1, or whether an expression holds.

    Args:
        name: the task's name, and the feature's in the records.
        column: the 0/1 column; None with an expression.
        expression: what must hold for a positive; None with a column.
    """

    name: str
    column: str | None
    expression: Expression | None

    @property
    def columns(self) -> list[str]:
        return [self.column] if self.column else self.expression.columns

    @property
    def text(self) -> str:
        return self.column or self.expression.text

    def values(self, table: pa.Table, form: TimeForm | None = None) -> np.ndarray:
        """int64 per row: 1, 0, or -1 where a value that an expression needs is missing.

        Args:
            table: has `columns`.
            form: of texts of times; None for ISO 8601.

        Raises:
            BadValue: the column has a value that is neither 0 nor 1.
        """
        if self.column:
            return zero_or_one(table[self.column].combine_chunks())
        return self.expression.holds(table, form).astype(np.int64)


def parse_labels(texts: Iterable[str]) -> list[Label]:
    """Reads `--labels`: `[name:]column` or `[name:]expression`, split at commas.

    A comma inside parentheses or quotes belongs to the value.

    Raises:
        UserError: an expression is not one, or two labels have one name.
    """
    labels = []
    for text in texts:
        for item in split_list(text):
            label = parse_label(item)
            if label.name in [other.name for other in labels]:
                raise UserError(
                    f"--labels has two labels named {label.name!r}; name one of them, "
                    f"as in other_name:{label.text}"
                )
            labels.append(label)
    return labels


def parse_label(text: str) -> Label:
    """Reads one label; see `parse_labels`."""
    operator = OPERATOR.search(text)
    named = _NAMED.fullmatch(text)
    if named and (not operator or named.end(1) <= operator.start()):
        name, rest = named.groups()
    else:
        name, rest = None, text
    if not operator:
        return Label(name or rest.strip(), rest.strip(), None)
    expression = parse_expression(rest)
    return Label(name or expression.safe_name(), None, expression)


def named_label(name: str, text: str) -> Label:
    """The label called `name` of a 0/1 column or an expression."""
    if OPERATOR.search(text):
        return Label(name, None, parse_expression(text))
    return Label(name, text, None)


def split_list(text: str) -> list[str]:
    """Splits at commas that are outside parentheses and quotes; drops empty parts."""
    parts, start, depth, quote, before = [], 0, 0, None, ","
    for index, mark in enumerate(text):
        if quote:
            quote = None if mark == quote else quote
        elif mark in "'\"" and before in "=<>(|,":
            quote = mark  # elsewhere it is an apostrophe
        elif mark in "()":
            depth += 1 if mark == "(" else -1
        elif mark == "," and depth <= 0:
            parts.append(text[start:index])
            start = index + 1
        if not mark.isspace():
            before = mark
    parts.append(text[start:])
    return [part for part in parts if part.strip()]
