"""Which split an edge belongs to: training, validation, test."""

import abc
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from recap_tf.core.command import UserError
from twhin_tf.conversion.raw_edges import Block
from twhin_tf.graph.edge_hashes import hashes, mixed

TRAIN = "train"
SPLITS = (TRAIN, "validation", "test")


class SplitRule(abc.ABC):
    """Deals out edges. `names` are the splits, training first."""

    names: Sequence[str]

    @abc.abstractmethod
    def of(
        self, block: Block, lhs_types: np.ndarray, rhs_types: np.ndarray
    ) -> np.ndarray:
        """The place in `names` of each edge's split, (n,).

        Args:
            block: the edges.
            lhs_types, rhs_types: a number for the type of each edge's nodes.
        """


class ByFile(SplitRule):
    """Each file is for one split."""

    def __init__(self, names: Sequence[str]):
        self.names = list(names)

    def of(self, block, lhs_types, rhs_types):
        return np.full(len(block), self.names.index(block.split))


class Shares(SplitRule):
    """Random splits of given shares.

    What falls where is up to the ids alone: the same edges always fall the same way,
    whatever their order, and equal ones together.

    Args:
        shares: of train, validation and test (which may be left out); their sum is 1.
        by: "edge", every edge for itself; "pair", all edges between two nodes
            together, in both directions and whatever their relations.
        seed: another one splits otherwise.
    """

    def __init__(self, shares: Sequence[float], by: Literal["edge", "pair"], seed: int):
        if (
            not 1 <= len(shares) <= len(SPLITS)
            or min(shares) <= 0
            or not abs(sum(shares) - 1) <= 1e-6
        ):
            raise UserError(
                "--split takes up to three positive shares, of training, validation "
                f"and test, whose sum is 1. Received: {','.join(map(str, shares))}"
            )
        if seed < 0:
            raise UserError(f"--seed must not be negative. Received: {seed}")
        self.names = SPLITS[: len(shares)]
        self._ends = np.cumsum(shares)[:-1]
        self._by, self._seed = by, np.uint64(seed)

    def of(self, block, lhs_types, rhs_types):
        if len(self.names) == 1:
            return np.zeros(len(block), np.int64)
        ids = [block.lhs, block.rhs]
        if ids[0].type != ids[1].type:
            # A node may be on both sides: 7 and "7" are the same one.
            ids = [column.cast(pa.large_string()) for column in ids]
        lhs, rhs = _nodes(ids[0], lhs_types), _nodes(ids[1], rhs_types)
        if self._by == "pair":
            hashed = mixed(np.minimum(lhs, rhs) ^ self._seed) ^ np.maximum(lhs, rhs)
        else:
            hashed = mixed(lhs ^ self._seed) ^ hashes(block.relation)
            hashed = mixed(hashed) ^ rhs
        uniform = mixed(hashed) / 2.0**64
        return np.searchsorted(self._ends, uniform, side="right")


def _nodes(ids: pa.Array, types: np.ndarray) -> np.ndarray:
    # User 7 and tweet 7 are two nodes.
    return mixed(hashes(ids) + types.astype(np.uint64))
