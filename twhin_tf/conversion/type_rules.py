"""Between which node types each relation goes, told by the user or by the ids."""

import abc
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from recap_tf.core.command import UserError
from recap_tf.core.row_files import nearest
from twhin_tf.conversion.raw_edges import Block, codes_of

Sides = tuple[str, str]
"""Node types of a relation's left and right hand side."""


class TypeRule(abc.ABC):
    """Finds the node types of relations."""

    @abc.abstractmethod
    def sides(self, block: Block, codes: np.ndarray, names: list[str]) -> list[Sides]:
        """Returns the node types of each relation in a block.

        Args:
            block: n edges.
            codes: (n,) the edges' relations, places in `names`.
            names: of the relations.

        Raises:
            UserError: a relation's types are unknown, or not the same in all rows.
        """

    @abc.abstractmethod
    def integer(self, name: str, columns: Mapping[str, bool]) -> bool:
        """Tells whether the ids of the type `name` are whole numbers.

        Args:
            name: of a type that `sides` has returned.
            columns: for "lhs" and "rhs", whether the column holds whole numbers.
        """

    def listed_relations(self) -> Sequence[str]:
        """Returns the relations that the user has listed, all of which must occur."""
        return ()


class OneType(TypeRule):
    """The rule that all nodes are of one type."""

    def __init__(self, name: str = "entity"):
        self._name = name

    def sides(self, block, codes, names):
        return [(self._name, self._name)] * len(names)

    def integer(self, name, columns):
        return all(columns.values())


class ListedTypes(TypeRule):
    """The rule of --types relation=lhs:rhs, one for each relation."""

    def __init__(self, texts: Sequence[str]):
        self.listed: dict[str, Sides] = {}
        for text in texts:
            # A relation's name may hold "=" or ":", a type's may not.
            relation, equals, sides = text.rpartition("=")
            lhs, colon, rhs = sides.partition(":")
            if not (equals and colon and relation and lhs and rhs) or ":" in rhs:
                raise UserError(f"--types takes RELATION=LHS:RHS. Received: {text!r}")
            if relation in self.listed:
                raise UserError(f"--types lists relation {relation!r} twice.")
            self.listed[relation] = (lhs, rhs)

    def sides(self, block, codes, names):
        for code, name in enumerate(names):
            if name not in self.listed:
                row = block.row(np.flatnonzero(codes == code)[0])
                raise UserError(
                    f"{row}: --types does not list relation {name!r}. "
                    f"{nearest(name, self.listed)}"
                )
        return [self.listed[name] for name in names]

    def integer(self, name, columns):
        # A type found on both sides has ids from both columns.
        return all(
            columns[side]
            for sides in self.listed.values()
            for side, side_type in zip(("lhs", "rhs"), sides, strict=True)
            if side_type == name
        )

    def listed_relations(self):
        return list(self.listed)


class PrefixedTypes(TypeRule):
    """The rule that a node's type is its id's beginning: user in user:7.

    The prefix stays part of the id.

    Args:
        mark: what the prefix ends before, at least one letter: ":".
    """

    def __init__(self, mark: str):
        if not mark:
            raise UserError("--type-prefix must be at least one letter. Received: ''")
        self._mark = mark
        self._first_sides: dict[str, Sides] = {}

    def sides(self, block, codes, names):
        prefixes = [self._prefixes(block, column) for column in (block.lhs, block.rhs)]
        rows, first = np.unique(codes, return_index=True)
        for code, row in zip(rows, first, strict=True):
            sides = tuple(types[numbers[row]] for numbers, types in prefixes)
            self._first_sides.setdefault(names[code], sides)
        expected = [self._first_sides[name] for name in names]
        for side, (numbers, types) in enumerate(prefixes):
            number = {name: i for i, name in enumerate(types)}
            wanted = np.array([number.get(sides[side], -1) for sides in expected])
            wrong = np.flatnonzero(numbers != wanted[codes])
            if len(wrong):
                name = names[codes[wrong[0]]]
                raise UserError(
                    f"{block.row(wrong[0])}: relation {name!r} goes from "
                    f"{self._first_sides[name][0]!r} to "
                    f"{self._first_sides[name][1]!r}. Received: "
                    f"{types[numbers[wrong[0]]]!r} on the {('left', 'right')[side]}"
                )
        return expected

    def integer(self, name, columns):
        return False

    def _prefixes(self, block: Block, column: pa.Array) -> tuple[np.ndarray, list[str]]:
        """Returns (numbers, types): the type of row i is types[numbers[i]]."""
        encoded = column.cast(pa.large_string()).dictionary_encode()
        ids = encoded.dictionary
        marked = pc.find_substring(ids, self._mark).to_numpy()
        codes = encoded.indices.to_numpy()
        unmarked = np.flatnonzero(marked[codes] < 1)
        if len(unmarked):
            row = unmarked[0]
            raise UserError(
                f"{block.row(row)}: --type-prefix {self._mark} needs ids such as "
                f"user{self._mark}7. Received: {column[int(row)].as_py()!r}"
            )
        parts = pc.split_pattern(ids, self._mark, max_splits=1)
        numbers, types = codes_of(pc.list_element(parts, 0))
        return numbers[codes], types
