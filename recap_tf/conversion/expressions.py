"""Conditions on columns, as typed on a command line: `rating>=4`."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.command import UserError
from recap_tf.core.values.arrow_kinds import BadValue
from recap_tf.core.values.comparisons import bare, compare
from recap_tf.core.values.time_form import TimeForm

OPERATOR = re.compile(r"==|!=|>=|<=|>|<|=|\s+not\s+in\s*\(|\s+in\s*\(")
# "7th and 8th grade" is one value: `and` joins only where a comparison follows.
_AND = re.compile(r"\s+and\s+(?=[^\s=<>!(|]+\s*(?:[=<>]|!=|\s(?:not\s+)?in\s*\())")
_WORDS = {"==": "eq", "!=": "ne", ">=": "ge", "<=": "le", ">": "gt", "<": "lt"}


@dataclasses.dataclass(frozen=True)
class Clause:
    """`column operator value`, or `column in (a|b)`, which is == or !=  of several.

    Args:
        column: the input's column whose values are compared.
        operator: ==, !=, >=, <=, > or <.
        values: as typed; several only with == (any of them) and != (none of them).
    """

    column: str
    operator: str
    values: tuple[str, ...]

    def holds(self, column: pa.Array, form: TimeForm | None = None) -> pa.Array:
        """Boolean per value of `column`; null where the value is missing.

        Args:
            column: the values that are compared.
            form: of texts of times; None for ISO 8601.
        """
        try:
            return compare(self.column, column, self.operator, self.values, form=form)
        except BadValue as error:
            raise UserError(
                f"Column {self.column!r} holds {error}, which cannot be compared with "
                f"{bare(self.values[0])}."
            ) from error


@dataclasses.dataclass(frozen=True)
class Expression:
    """Clauses that all must hold.

    Texts are compared without the blanks around them, unless the value is quoted
    ('...' or "..."). < and > on a text column compare numbers if the value is one.

    Args:
        text: as typed, without a name.
        clauses: its parts.
    """

    text: str
    clauses: tuple[Clause, ...]

    @property
    def columns(self) -> list[str]:
        return [clause.column for clause in self.clauses]

    def holds(self, table: pa.Table, form: TimeForm | None = None) -> np.ndarray:
        """Per row: 1 if it holds, 0 if not, -1 if a value it needs is missing.

        Args:
            table: has `columns`.
            form: of texts of times; None for ISO 8601.
        """
        result = None
        for clause in self.clauses:
            held = clause.holds(table[clause.column].combine_chunks(), form)
            result = held if result is None else pc.and_kleene(result, held)
        return pc.fill_null(result.cast(pa.int8()), -1).to_numpy(zero_copy_only=False)

    def safe_name(self) -> str:
        """A name for it of letters, digits, dots and underscores: `rating_ge_4`."""
        parts = []
        for clause in self.clauses:
            word = _WORDS[clause.operator]
            if len(clause.values) > 1:
                word = "in" if word == "eq" else "not_in"
            parts += [clause.column, word, *clause.values]
        name = re.sub(r"[^A-Za-z0-9_.]+", "_", "_".join(p.strip() for p in parts))
        return re.sub("_+", "_", name).strip("_.")


def parse_expression(text: str) -> Expression:
    """Reads `column>=value`, `column in (a|b)`, and several joined with ` and `.

    Raises:
        UserError: `text` has no operator, no column or no value.
    """
    clauses = []
    for part in _AND.split(text):
        operator = OPERATOR.search(part)
        column = part[: operator.start()].strip() if operator else ""
        if not column:
            raise UserError(
                f"{part.strip()!r} is no condition: expected column==value, !=, >=, "
                "<=, >, < or column in (a|b)."
            )
        sign, rest = operator.group().strip(), part[operator.end() :]
        if sign.endswith("("):
            if not rest.rstrip().endswith(")"):
                raise UserError(f"{part.strip()!r} lacks its closing parenthesis.")
            values = tuple(rest.rstrip()[:-1].split("|"))
            sign = "!=" if sign.startswith("not") else "=="
        else:
            values, sign = (rest,), "==" if sign == "=" else sign
        if not all(value.strip() for value in values):
            raise UserError(f"{part.strip()!r} lacks a value after {sign}.")
        clauses.append(Clause(column, sign, values))
    return Expression(text.strip(), tuple(clauses))
