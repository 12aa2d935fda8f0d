"""Node tables in parts, of which a few are in memory: settings, and where rows are.

Row r of a table is row r // count of its partition r % count. Vocabularies count rows
from the most frequent node down, so that every partition has its share of those. The
partitions of all types with one number are in memory together, in one place of the
buffer (Lerer et al. 2019, PyTorch-BigGraph, arXiv:1903.12287, section 4.1, swaps those
of both sides of an edge one by one).
"""

import dataclasses
from collections.abc import Mapping, Sequence

import gin
import numpy as np

from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from twhin_tf.graph.graph import Graph

# Edges are sorted by pairs of partitions, and every pair is a visit.
_MOST = 512


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class Partitions:
    """Keeps node tables on disk, and a few partitions of them in memory.

    Negatives come from the partitions in memory.

    Args:
        memory_limit_mb: what table rows and their optimizers' state may take in memory,
            in millions of bytes; says how many partitions there are. TensorFlow itself
            and up to a million edges come on top.
        count: how many there are instead, for each node type; `buffer` to 512.
        buffer: how many are in memory, at least 2. With more, and so smaller ones, less
            is read and written.
        chunks: every pass takes so many turns through all pairs of partitions, with a
            share of the edges each. More mix better, and swap more: on FB15k-237, with
            a fourth of the rows in memory, the MRR is 0.2705 with 1, 0.2794 with 4, and
            0.2799 without partitions.
        whole: node types that are in memory whole, for small ones.
        folder: where they are, on this machine, those of one run only; None for a
            folder in save_dir.
    """

    memory_limit_mb: float | None = None
    count: int | None = None
    buffer: int = 4
    chunks: int = 4
    whole: Sequence[str] = ()
    folder: str | None = None

    def __post_init__(self):
        if (self.memory_limit_mb is None) == (self.count is None):
            raise ValueError(
                "Partitions takes one of memory_limit_mb and count. Received: "
                f"{self.memory_limit_mb} and {self.count}"
            )
        check_range("Partitions.buffer", self.buffer, at_least=2)
        check_range("Partitions.chunks", self.chunks, at_least=1)
        check_range(
            "Partitions.count",
            self.count,
            at_most=_MOST,
            none="what memory_limit_mb allows",
        )
        if self.count is not None and self.count < self.buffer:
            raise ValueError(
                f"Partitions.count must be at least Partitions.buffer = {self.buffer}. "
                f"Received: {self.count}"
            )

    def layout(self, graph: Graph, row_bytes: Mapping[str, int]) -> "Layout":
        """Decides where the rows of a graph's tables are.

        Args:
            graph: with at least one type that is not in `whole`.
            row_bytes: type -> bytes of a row with its optimizer's state.

        Raises:
            UserError: the limit is too low, a type in `whole` does not exist, or there
                would be more partitions than rows.
        """
        for name in self.whole:
            if name not in graph.types:
                raise UserError(
                    "Partitions.whole must name node types of the graph: "
                    f"{', '.join(map(repr, graph.types))}. Received: {name!r}"
                )
        parted = {n: r for n, r in graph.rows.items() if n not in self.whole}
        if not parted:
            raise UserError(
                f"Partitions.whole must leave a node type. Received: {list(self.whole)}"
            )
        count = self.count or self._fitting(graph, parted, row_bytes)
        for name, rows in parted.items():
            if count > rows:
                raise UserError(
                    f"Type {name!r} has {rows} rows, fewer than {count} partitions: "
                    f"name it in Partitions.whole."
                )
        return Layout(graph, count, self.buffer, frozenset(self.whole))

    def _fitting(self, graph, parted, row_bytes) -> int:
        """Finds the least number of partitions of which `buffer` fit into the limit."""
        limit = int(self.memory_limit_mb * 1e6)
        taken = sum(graph.types[name].rows * row_bytes[name] for name in self.whole)
        most = min(*parted.values(), _MOST)

        def needed(count: int) -> int:
            return taken + sum(
                self.buffer * -(-rows // count) * row_bytes[name]
                for name, rows in parted.items()
            )

        if needed(most) > limit:
            raise UserError(
                f"Partitions.memory_limit_mb must be at least {needed(most) / 1e6:.3g} "
                f"for a buffer of {self.buffer}. Received: {self.memory_limit_mb}"
            )
        # May be more partitions than rows, which `layout` says.
        low, high = self.buffer, max(most, self.buffer)
        while low < high:
            middle = (low + high) // 2
            low, high = (low, middle) if needed(middle) <= limit else (middle + 1, high)
        return low


@dataclasses.dataclass(frozen=True)
class Layout:
    """The places of the rows of a graph's tables.

    Args:
        graph: the whole one, of which `in_memory` is a part.
        count: partitions of each type.
        buffer: how many of them are in memory.
        whole: types that are not parted.
    """

    graph: Graph
    count: int
    buffer: int
    whole: frozenset[str]

    @property
    def parted(self) -> list[str]:
        """The types that have partitions."""
        return [name for name in self.graph.types if name not in self.whole]

    def place_rows(self, name: str) -> int:
        """Counts the rows of each partition of a type, and of a place in the buffer.

        As many as partition 0 has nodes. In others the last row may be no node's; it
        is drawn as a negative all the same, and so is kept like any other.
        """
        return -(-self.graph.types[name].rows // self.count)

    def in_memory(self) -> Graph:
        """Returns the graph as the model sees it, with the rows of the buffer."""
        types = dict(self.graph.types)
        for name in self.parted:
            rows = self.buffer * self.place_rows(name)
            types[name] = dataclasses.replace(types[name], rows=rows)
        return dataclasses.replace(self.graph, types=types)

    def pairs(self, edges: np.ndarray) -> np.ndarray:
        """Finds the pair of partitions of each edge: (n, 3) -> (n, 2) lower, higher.

        An end of a whole type is in all partitions, and so goes with the other end.
        """
        whole = self._whole_ends()[edges[:, 1]]
        ends = edges[:, [0, 2]] % self.count
        lhs = np.where(whole[:, 0] & ~whole[:, 1], ends[:, 1], ends[:, 0])
        rhs = np.where(whole[:, 1], lhs, ends[:, 1])
        return np.stack([np.minimum(lhs, rhs), np.maximum(lhs, rhs)], axis=1)

    def to_memory(self, edges: np.ndarray, held: Sequence[int]) -> np.ndarray:
        """Turns rows of the tables into rows of the buffer, in (n, 3) edges.

        Args:
            edges: all of whose partitions are held.
            held: the partition in each place of the buffer.
        """
        place_of = np.full(self.count, -1, np.int32)
        place_of[list(held)] = np.arange(len(held))
        whole = self._whole_ends()
        moved = edges.copy()
        for column, side in ((0, "lhs"), (2, "rhs")):
            sizes = [self.place_rows(getattr(r, side)) for r in self.graph.relations]
            rows, relation = edges[:, column], edges[:, 1]
            inside = place_of[rows % self.count] * np.int32(sizes)[relation]
            inside += rows // self.count
            moved[:, column] = np.where(whole[relation, column // 2], rows, inside)
        return moved

    def _whole_ends(self) -> np.ndarray:
        """Returns (relations, 2) booleans: whether lhs and rhs are of whole types."""
        return np.array(
            [[r.lhs in self.whole, r.rhs in self.whole] for r in self.graph.relations]
        )
