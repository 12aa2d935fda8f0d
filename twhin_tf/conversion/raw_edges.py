"""Edges with raw ids, as files hold them, in blocks of rows."""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa

from recap_tf.core.command import UserError
from recap_tf.core.row_files import CsvTable, TableFile
from recap_tf.core.values.arrow_kinds import kind_of
from recap_tf.core.values.canonical_text import canonical_texts

BLOCK_ROWS = 1 << 18
_SIDES = ("lhs", "relation", "rhs")


@dataclasses.dataclass(frozen=True)
class Block:
    """Some rows of one file of edges.

    Args:
        path: of the file, for messages.
        first: number of the first row, counted from 1.
        lhs, rhs: (n,) ids, int64 or text, without missing ones.
        relation: (n,) names of the relations, text.
        split: the split that the file is for; None where that is still open.
    """

    path: str
    first: int
    lhs: pa.Array
    relation: pa.Array
    rhs: pa.Array
    split: str | None

    def __len__(self) -> int:
        return len(self.lhs)

    def row(self, index: int) -> str:
        """Names a row for a message: "edges.csv, row 17"."""
        return f"{self.path}, row {self.first + int(index)}"


class RawEdges:
    """Edge files that can be read again and again.

    Args:
        files: split, or None for "yet to be split" -> its files.
        columns: names of the three columns lhs, relation, rhs, or of the two lhs, rhs.
        relation: the name of all edges' relation, where no column has it.

    Attributes:
        integer: for "lhs" and "rhs", whether the ids are whole numbers that int64
            holds. Other ids are texts.

    Raises:
        UserError: a column is missing or has the wrong type; there are no rows.
    """

    def __init__(
        self,
        files: dict[str | None, Sequence[TableFile]],
        columns: Sequence[str],
        relation: str | None = None,
    ):
        sides = _SIDES if len(columns) == 3 else ("lhs", "rhs")
        self._columns = dict(zip(sides, columns, strict=True))
        self._relation = relation
        self._files = [
            (split, file) for split, listed in files.items() for file in listed
        ]
        for _, file in self._files:
            self._check_columns(file)
        self.integer = {
            side: all(
                file.kinds[self._columns[side]] == "integer"
                and file.fits_int64(self._columns[side])
                for _, file in self._files
            )
            for side in ("lhs", "rhs")
        }

    @property
    def rows(self) -> int | None:
        """The number of rows, roughly; None where that is unknown."""
        counts = [file.rows for _, file in self._files]
        return None if None in counts else sum(counts)

    def blocks(self, rows: int = BLOCK_ROWS) -> Iterator[Block]:
        """Yields all rows, at most about `rows` at once.

        Raises:
            UserError: an id is missing or is not of its column's type.
        """
        names = list(self._columns.values())
        for split, file in self._files:
            parts: list[pa.Table] = []
            first, seen = 1, 0
            for row, part in file.chunks(names):
                if seen and seen + part.num_rows > rows:
                    yield self._block(file, split, first, parts)
                    first, seen, parts = row, 0, []
                parts.append(part)
                seen += part.num_rows
            if seen:
                yield self._block(file, split, first, parts)

    def _block(self, file, split, first, parts: list[pa.Table]) -> Block:
        table = pa.concat_tables(parts).combine_chunks()
        sides = {}
        for side, name in self._columns.items():
            chunks = table[name].chunks
            column = chunks[0] if len(chunks) == 1 else pa.concat_arrays(chunks)
            where = f"{file.path}, row {{}}: column {name!r}"
            if column.null_count:
                index = column.is_null().index(True).as_py()
                raise UserError(f"{where.format(first + index)} has a missing id.")
            sides[side] = self._typed(side, column, where, first)
        if "relation" not in sides:
            name = pa.scalar(self._relation, pa.large_string())
            sides["relation"] = pa.repeat(name, len(sides["lhs"]))
        return Block(path=file.path, first=first, split=split, **sides)

    def _typed(self, side: str, column: pa.Array, where: str, first: int) -> pa.Array:
        if not self.integer.get(side):
            # Texts stay as they stand: names of entities are no numbers.
            if kind_of(column.type) == "integer":
                column = canonical_texts(column)
            return column.cast(pa.large_string())
        try:
            return column.cast(pa.int64())
        except pa.ArrowInvalid as error:
            for index, value in enumerate(column.to_pylist()):
                if not _is_int64(value):
                    if re.fullmatch(r"\s*-?[0-9]+\s*", str(value)):
                        raise UserError(
                            f"{where.format(first + index)} must hold whole numbers "
                            "below 2^63, as its first rows do; write larger ids as "
                            f"text in all rows. Received: {value}"
                        ) from error
                    raise UserError(
                        f"{where.format(first + index)} must hold whole numbers, as "
                        f"its first rows do. Received: {value!r}"
                    ) from error
            raise

    def _check_columns(self, file: TableFile) -> None:
        missing = [name for name in self._columns.values() if name not in file.kinds]
        if len(missing) == len(self._columns) and isinstance(file, CsvTable):
            raise UserError(
                f"{file.path} has no column {missing[0]!r}; its first line is "
                f"{', '.join(map(repr, list(file.kinds)[:5]))}. Name its columns with "
                "--columns, or give --no-header if that line is an edge."
            )
        file.require(self._columns.values())
        if file.rows == 0 and file.rows_are_exact:
            raise UserError(f"{file.path} has no rows.")
        for name in self._columns.values():
            kind = file.kinds[name]
            # CSV files hold text, whatever it looks like.
            if kind not in ("integer", "text") and not isinstance(file, CsvTable):
                raise UserError(
                    f"{file.path}: column {name!r} must hold whole numbers or texts. "
                    f"Received: {kind}"
                )


def _is_int64(value) -> bool:
    try:
        pa.array([value]).cast(pa.int64())
    except (pa.ArrowInvalid, OverflowError):
        return False
    return True


def codes_of(column: pa.Array) -> tuple[np.ndarray, list[str]]:
    """Encodes n texts as (codes, texts): the text of row i is texts[codes[i]]."""
    encoded = column.dictionary_encode()
    return encoded.indices.to_numpy(), encoded.dictionary.to_pylist()
