"""Raw edges block by block, each with its relation, node types and split."""

import dataclasses
import zlib
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import tqdm

from twhin_tf.conversion.raw_edges import Block, RawEdges, codes_of
from twhin_tf.conversion.split_rules import SplitRule
from twhin_tf.conversion.type_rules import Sides, TypeRule


@dataclasses.dataclass(frozen=True)
class RawPart:
    """A block whose relations, types and splits are known.

    Args:
        block: n raw edges.
        codes: (n,) relation of each, a place in `names`.
        names: relations of the block.
        sides: node types of each of `names`.
        splits: (n,) split of each edge.
    """

    block: Block
    codes: np.ndarray
    names: list[str]
    sides: list[Sides]
    splits: np.ndarray

    def nodes(self) -> Iterator[tuple[str, pa.Array, np.ndarray | None]]:
        """Yields (type, column, rows of the column of that type; None for all)."""
        for side, column in enumerate((self.block.lhs, self.block.rhs)):
            own = [sides[side] for sides in self.sides]
            for name in sorted(set(own)):
                which = np.array([other == name for other in own])
                rows = None if which.all() else np.flatnonzero(which[self.codes])
                yield name, column, rows

    def edges(self, ids: dict[str, pa.Array], number: dict[str, int]) -> np.ndarray:
        """(n, 3) lhs row, relation number, rhs row; -1 for an id that has no row."""
        edges = np.empty((len(self.block), 3), np.int64)
        edges[:, 1] = np.array([number[name] for name in self.names])[self.codes]
        columns = {0: self.block.lhs, 2: self.block.rhs}
        for side, column in columns.items():
            own = [sides[side // 2] for sides in self.sides]
            for name in set(own):
                which = np.array([other == name for other in own])
                rows = np.flatnonzero(which[self.codes])
                mine = column.take(pa.array(rows)).cast(ids[name].type)
                found = pc.fill_null(pc.index_in(mine, ids[name]), -1)
                edges[rows, side] = found.to_numpy()
        return edges


def read_parts(
    edges: RawEdges, types: TypeRule, splits: SplitRule, rows: int, doing: str
) -> Iterator[RawPart]:
    """Yields all edges in their order.

    Args:
        edges: the edges.
        types: finds the node types.
        splits: deals out the edges.
        rows: of a block.
        doing: what a progress bar on stderr says.
    """
    with tqdm.tqdm(
        total=edges.rows, unit=" edges", unit_scale=True, desc=doing
    ) as progress:
        for block in edges.blocks(rows):
            codes, names = codes_of(block.relation)
            sides = types.sides(block, codes, names)
            numbers = np.array([[zlib.crc32(t.encode()) for t in two] for two in sides])
            of_edge = numbers[codes]
            own = splits.of(block, of_edge[:, 0], of_edge[:, 1])
            yield RawPart(block, codes, names, sides, own)
            progress.update(len(block))
