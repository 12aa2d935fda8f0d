"""Values of a column -> small whole numbers, the rows of an embedding."""

import numpy as np
import pyarrow as pa

from recap_tf.core.row_files import open_table, write_parquet
from recap_tf.core.values.canonical_text import canonical_codes, canonical_texts


class ValueCounts:
    """How often each value of a column occurs; gives up past `limit` values.

    Args:
        limit: how many different values to count; None for any number.
    """

    def __init__(self, limit: int | None = None):
        self.limit = limit
        self.missing = 0
        self._counts = {}

    @property
    def over_limit(self) -> bool:
        """Whether there were too many values to count."""
        return self._counts is None

    @property
    def counts(self) -> dict[str, int]:
        """Value -> how often it occurred; not to be read over the limit."""
        return self._counts

    def add(self, column: pa.Array) -> None:
        """Counts the values of `column`."""
        if self.over_limit:
            return
        codes, values = canonical_codes(column)
        counts = np.bincount(codes[codes >= 0], minlength=len(values)).tolist()
        for value, count in zip(values, counts, strict=True):
            self._counts[value] = self._counts.get(value, 0) + count
        self.missing += int((codes < 0).sum())
        if self.limit is not None and len(self._counts) > self.limit:
            self._counts = None


class Vocabulary:
    """Gives every value an id: the frequent ones 1, 2, ... by falling count.

    0 stands for rare and unseen values. A missing value (None) is a value like
    another.

    >>> from recap_tf.conversion.vocabulary import Vocabulary
    >>> vocabulary = Vocabulary({"de": 2, "fr": 9, "it": 1}, min_count=2)
    >>> vocabulary.ids(pa.array(["fr", "de", "it"])).tolist()
    [1, 2, 0]

    Args:
        counts: value -> how often it occurred.
        min_count: what occurred less often is rare.
    """

    def __init__(self, counts: dict[str | None, int], min_count: int = 1):
        frequent = {value: n for value, n in counts.items() if n >= max(min_count, 1)}
        # The value breaks ties, so that the ids do not depend on the rows' order.
        ordered = sorted(frequent, key=lambda value: (-frequent[value], value or ""))
        self.counts = {value: frequent[value] for value in ordered}
        self.rare = sum(counts.values()) - sum(frequent.values())
        self._id_of = {value: index + 1 for index, value in enumerate(ordered)}
        # A vocabulary of earlier days may hold 7.0 or True as texts of their own.
        known = canonical_texts(pa.array(ordered, pa.string())).to_pylist()
        for index, value in enumerate(known):
            self._id_of.setdefault(value, index + 1)

    @property
    def size(self) -> int:
        """Number of ids, 0 included."""
        return len(self.counts) + 1

    def ids(self, column: pa.Array) -> np.ndarray:
        """The ids of the column's values, (rows,) int64."""
        codes, values = canonical_codes(column)
        id_of = self._id_of
        table = [id_of.get(value, 0) for value in values]
        # Code -1, a missing value, reads the last entry.
        return np.array([*table, id_of.get(None, 0)], np.int64)[codes]

    def write(self, path: str) -> None:
        """Writes a parquet file of value, id, count (a missing value is null)."""
        table = pa.table(
            {
                "value": pa.array(list(self.counts), pa.string()),
                "id": pa.array(range(1, self.size), pa.int64()),
                "count": pa.array(list(self.counts.values()), pa.int64()),
            }
        )
        write_parquet(path, table)


def read_vocabulary(path: str) -> Vocabulary:
    """Reads what `Vocabulary.write` wrote."""
    table = open_table(path).read()
    counts = zip(table["value"].to_pylist(), table["count"].to_pylist(), strict=True)
    return Vocabulary(dict(counts))
