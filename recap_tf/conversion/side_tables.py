"""Tables of users, items or authors that are joined to the rows by a key."""

import dataclasses

import numpy as np
import pyarrow as pa

from recap_tf.core.command import UserError
from recap_tf.core.row_files import open_table
from recap_tf.core.values.canonical_text import canonical_codes


@dataclasses.dataclass(frozen=True)
class Join:
    """One `--join FILE:KEY`, or FILE:KEY=TABLE_KEY if the key is named otherwise there.

    Args:
        path: a parquet or CSV file that fits in memory, one row per key.
        key: the rows' column.
        table_key: the side table's column.
        vector_name: what the rows call the column `vector`; none for its own name.
    """

    path: str
    key: str
    table_key: str
    vector_name: str | None = None


def parse_join(text: str) -> Join:
    """Reads `FILE:KEY` or `FILE:KEY=TABLE_KEY`.

    Raises:
        UserError: `text` has no key.
    """
    path, _, keys = text.rpartition(":")
    key, _, table_key = keys.partition("=")
    if not path or not key:
        raise UserError(f"--join takes FILE:KEY. Received: {text!r}")
    return Join(path, key, table_key or key)


def parse_vectors(text: str) -> Join:
    """Reads `NAME=FILE:KEY` of --vectors, FILE with the columns entity and vector.

    Raises:
        UserError: `text` is not of this form.
    """
    name, _, place = text.partition("=")
    path, _, key = place.rpartition(":")
    if not name or not path or not key:
        raise UserError(f"--vectors takes NAME=FILE:KEY. Received: {text!r}")
    return Join(path, key, "entity", name)


class SideTable:
    """The columns of a side table, looked up by key.

    Args:
        join: which file, and the key.
        taken: columns that the rows have already; a column of the same name is
            called `KEY.column`.

    Raises:
        UserError: the file has no such key, no rows, or two rows of one key.
    """

    def __init__(self, join: Join, taken: set[str]):
        file = open_table(join.path)
        file.require([join.table_key])
        if join.vector_name is not None:
            file.require(["vector"])
        self.join = join
        self._table = file.read()
        if not self._table.num_rows:
            raise UserError(f"{join.path} has no rows to join.")
        codes, values = canonical_codes(self._table[join.table_key].combine_chunks())
        counts = np.bincount(codes[codes >= 0], minlength=len(values))
        if (counts > 1).any():
            value = values[int(np.argmax(counts > 1))]
            raise UserError(
                f"{join.path} has {counts.max()} rows with {join.table_key} = "
                f"{value!r}; --join expects one row per key."
            )
        rows = np.flatnonzero(codes >= 0)
        self._row_of = {values[codes[row]]: row for row in rows.tolist()}
        self.columns = {}
        self.kinds = {}
        self.unreadable = {}
        for name, kind in file.kinds.items():
            if name != join.table_key:
                here = f"{join.key}.{name}" if name in taken else name
                if join.vector_name is not None and name == "vector":
                    here = join.vector_name
                    if here in taken:
                        raise UserError(
                            f"--vectors {here}=...: the rows have a column of that "
                            "name already."
                        )
                self.columns[here] = name
                self.kinds[here] = kind
                if name in file.unreadable:
                    self.unreadable[here] = file.unreadable[name]

    def look_up(
        self, key: pa.Array, columns: list[str]
    ) -> tuple[dict[str, pa.Array], int]:
        """(name -> values, null where the key is not in the table; how many are not).

        Args:
            key: the rows' keys.
            columns: names among `self.columns`.
        """
        codes, values = canonical_codes(key)
        rows = np.array([*(self._row_of.get(value, -1) for value in values), -1])
        rows = rows[codes]
        taken = self._table.select([self.columns[name] for name in columns]).take(
            pa.array(rows, mask=rows < 0)
        )
        arrays = [taken.column(index).combine_chunks() for index in range(len(columns))]
        return dict(zip(columns, arrays, strict=True)), int((rows < 0).sum())
