"""Counts the entities of one node type in memory that does not grow with the edges."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_PENDING = 1 << 20


class EntityCounts:
    """Counters of one node type's entities.

    Args:
        integer: whether ids are int64; they are text otherwise.
    """

    def __init__(self, *, integer: bool):
        self.type = pa.int64() if integer else pa.large_string()
        self._counts = _table(pa.array([], self.type), np.zeros(0, np.int64))
        self._pending: list[pa.Table] = []
        self._waiting = 0

    def add(self, ids: pa.Array, counted: np.ndarray) -> None:
        """Counts entities, or only notes that they exist.

        Args:
            ids: (n,) of the entities, repeated ones too.
            counted: (n,) booleans, which of them to count; the others are noted.
        """
        encoded = ids.cast(self.type).dictionary_encode()
        codes = encoded.indices.to_numpy()[counted]
        counts = np.bincount(codes, minlength=len(encoded.dictionary))
        self._pending.append(_table(encoded.dictionary, counts))
        self._waiting += len(counts)
        # Merged only once as much is new as there is already, so that the work stays
        # in proportion to the edges, and the memory to the entities.
        if self._waiting > max(_PENDING, len(self._counts)):
            self._merge()

    def ordered(self, least: int = 0) -> tuple[pa.Array, np.ndarray]:
        """Returns (ids, counts) of what was counted `least` times, by falling count.

        Among equals the id decides: the order of the edges does not matter.
        """
        self._merge()
        order = pc.sort_indices(
            self._counts, [("count", "descending"), ("entity", "ascending")]
        )
        table = self._counts.take(order)
        counts = table["count"].to_numpy()
        frequent = int((counts >= least).sum())
        chunks = table["entity"].slice(0, frequent).chunks
        ids = pa.concat_arrays(chunks) if chunks else pa.array([], self.type)
        return ids, counts[:frequent]

    def _merge(self) -> None:
        if self._pending:
            table = pa.concat_tables([self._counts, *self._pending])
            grouped = table.group_by("entity", use_threads=False)
            summed = grouped.aggregate([("count", "sum")])
            self._counts = pa.table(
                {"entity": summed["entity"], "count": summed["count_sum"]}
            )
            self._pending, self._waiting = [], 0


def _table(ids: pa.Array, counts: np.ndarray) -> pa.Table:
    return pa.table({"entity": ids, "count": pa.array(counts, pa.int64())})
