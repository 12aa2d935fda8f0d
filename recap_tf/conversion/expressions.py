"""Conditions on columns, as typed on a command line: `rating>=4`."""

import dataclasses
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.conversion.column_values import BadValue, numbers, texts
from recap_tf.core.column_kinds import kind_of
from recap_tf.core.command import UserError

OPERATOR = re.compile(r"==|!=|>=|<=|>|<|=|\s+not\s+in\s*\(|\s+in\s*\(")
# "7th and 8th grade" is one value: `and` joins only where a comparison follows.
_AND = re.compile(r"\s+and\s+(?=[^\s=<>!(|]+\s*(?:[=<>]|!=|\s(?:not\s+)?in\s*\())")
_WORDS = {"==": "eq", "!=": "ne", ">=": "ge", "<=": "le", ">": "gt", "<": "lt"}
_COMPARE = {
    "==": pc.equal,
    "!=": pc.not_equal,
    ">=": pc.greater_equal,
    "<=": pc.less_equal,
    ">": pc.greater,
    "<": pc.less,
}


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

    def holds(self, column: pa.Array) -> pa.Array:
        """Boolean per value of `column`; null where the value is missing."""
        kind = kind_of(column.type)
        if kind in ("vector", "other"):
            raise UserError(
                f"Column {self.column!r} cannot be compared: it holds {column.type}."
            )
        if kind == "text" and self.operator in ("==", "!="):
            return self._is_one_of(column)
        column, values = _comparable(self.column, column, self.values)
        results = [_COMPARE[self.operator](column, value) for value in values]
        joined = results[0]
        for result in results[1:]:
            joined = (pc.or_ if self.operator == "==" else pc.and_)(joined, result)
        return joined

    def _is_one_of(self, column: pa.Array) -> pa.Array:
        codes, there = texts(column)
        wanted = {value.strip() for value in self.values if not _quoted(value)}
        exact = {value.strip()[1:-1] for value in self.values if _quoted(value)}
        equal = [value in exact or value.strip() in wanted for value in there]
        holds = np.array([*equal, False]) ^ (self.operator == "!=")
        return pa.array(holds[codes], mask=codes < 0)


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

    def holds(self, table: pa.Table) -> np.ndarray:
        """Per row: 1 if it holds, 0 if not, -1 if a value it needs is missing."""
        result = None
        for clause in self.clauses:
            held = clause.holds(table[clause.column].combine_chunks())
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


def _quoted(value: str) -> bool:
    value = value.strip()
    return len(value) > 1 and value[0] == value[-1] and value[0] in "'\""


def _bare(value: str) -> str:
    return value.strip()[1:-1] if _quoted(value) else value.strip()


def _comparable(name: str, column: pa.Array, values: tuple[str, ...]):
    """(column, scalars) of one type, so that pyarrow can compare them."""
    values = [_bare(value) for value in values]
    kind = kind_of(column.type)
    if kind == "text":
        try:
            wanted = [pa.scalar(float(value)) for value in values]
        except ValueError:
            return column, [pa.scalar(value, column.type) for value in values]
        try:
            return pa.array(numbers(column), from_pandas=True), wanted
        except BadValue as error:
            raise UserError(
                f"Column {name!r} holds {error}, which cannot be compared with the "
                f"number {values[0]}."
            ) from error
    if kind == "boolean":
        values = [{"true": "1", "false": "0"}.get(v.lower(), v) for v in values]
        column = column.cast(pa.int64())
    # 64-bit ids would lose digits as float64: whole numbers stay whole.
    for target in (column.type, pa.float64()):
        try:
            wanted = [pa.scalar(value).cast(target) for value in values]
            return column.cast(target), wanted
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            continue
    raise UserError(
        f"Column {name!r} holds {column.type}; {values[0]!r} is no such value."
    )
