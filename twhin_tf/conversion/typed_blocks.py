"""Edges with raw ids block by block, each with its relation, node types and split."""

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
class TypedBlock:
    """A block of edges whose relations, node types and splits are known.

    Args:
        block: n raw edges.
        codes: (n,) relation of each, a place in `names`.
        names: relations of the block.
        sides: node types of each of `names`.
        splits: (n,) split of each edge, a place in `SplitRule.names`.
    """

    block: Block
    codes: np.ndarray
    names: list[str]
    sides: list[Sides]
    splits: np.ndarray

    def nodes(self) -> Iterator[tuple[str, pa.Array, np.ndarray | None]]:
        """Yields (type, column, rows of the column of that type; None for all)."""
        for side, column in enumerate((self.block.lhs, self.block.rhs)):
            types = np.array([sides[side] for sides in self.sides], object)
            for name in sorted(set(types.tolist())):
                of_type = types == name
                rows = None if of_type.all() else np.flatnonzero(of_type[self.codes])
                yield name, column, rows

    def edges(self, ids: dict[str, pa.Array], number: dict[str, int]) -> np.ndarray:
        """Returns (n, 3) lhs row, relation number, rhs row; -1 for an id without one.

        Args:
            ids: type -> the ids of its rows.
            number: relation -> its number.
        """
        edges = np.empty((len(self.block), 3), np.int64)
        edges[:, 1] = np.array([number[name] for name in self.names])[self.codes]
        columns = {0: self.block.lhs, 2: self.block.rhs}
        for side, column in columns.items():
            types = np.array([sides[side // 2] for sides in self.sides], object)
            for name in set(types.tolist()):
                places = np.flatnonzero((types == name)[self.codes])
                nodes = column.take(pa.array(places)).cast(ids[name].type)
                rows = pc.fill_null(pc.index_in(nodes, ids[name]), -1)
                edges[places, side] = rows.to_numpy()
        return edges


def read_typed_blocks(
    edges: RawEdges, types: TypeRule, splits: SplitRule, rows: int, doing: str
) -> Iterator[TypedBlock]:
    """Yields all edges in their order, in blocks of about `rows`.

    Args:
        edges: from files, read anew by each call.
        types: finds the node types.
        splits: deals out the edges.
        rows: of a block, see `RawEdges.blocks`.
        doing: what a progress bar on stderr says.

    Raises:
        UserError: see `RawEdges.blocks` and `TypeRule.sides`.
    """
    with tqdm.tqdm(
        total=edges.rows, unit=" edges", unit_scale=True, desc=doing
    ) as progress:
        for block in edges.blocks(rows):
            codes, names = codes_of(block.relation)
            sides = types.sides(block, codes, names)
            numbers = np.array([[zlib.crc32(t.encode()) for t in two] for two in sides])
            of_edge = numbers[codes]
            split = splits.of(block, of_edge[:, 0], of_edge[:, 1])
            yield TypedBlock(block, codes, names, sides, split)
            progress.update(len(block))
