"""Which split an edge belongs to: by its file, by itself, or by its pair of nodes."""

import abc
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pyarrow as pa

from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from twhin_tf.conversion.raw_edges import Block
from twhin_tf.graph.edge_hashes import hash_ids, mix
from twhin_tf.graph.graph import SPLITS


class SplitRule(abc.ABC):
    """Deals edges out to splits. `names` are the splits, training first."""

    names: Sequence[str]

    @abc.abstractmethod
    def of(
        self, block: Block, lhs_types: np.ndarray, rhs_types: np.ndarray
    ) -> np.ndarray:
        """Returns the place in `names` of each edge's split, (n,).

        Args:
            block: n edges.
            lhs_types, rhs_types: (n,) numbers that tell the types of nodes apart.
        """


class ByFile(SplitRule):
    """Splits that were made before: each file is for one of them."""

    def __init__(self, names: Sequence[str]):
        self.names = list(names)

    def of(self, block, lhs_types, rhs_types):
        return np.full(len(block), self.names.index(block.split))


class Shares(SplitRule):
    """Random splits of given shares.

    What falls where is up to the ids alone: the same edges always fall the same way,
    whatever their order, and equal ones together.

    Args:
        shares: of train, validation and test (the last ones may be left out), all
            positive; their sum is 1.
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
        check_range("--seed", seed, at_least=0, error=UserError)
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
            hashed = mix(np.minimum(lhs, rhs) ^ self._seed) ^ np.maximum(lhs, rhs)
        else:
            hashed = mix(lhs ^ self._seed) ^ hash_ids(block.relation)
            hashed = mix(hashed) ^ rhs
        uniform = mix(hashed) / 2.0**64
        return np.searchsorted(self._ends, uniform, side="right")


def _nodes(ids: pa.Array, types: np.ndarray) -> np.ndarray:
    # User 7 and tweet 7 are two nodes.
    return mix(hash_ids(ids) + types.astype(np.uint64))
