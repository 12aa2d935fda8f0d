"""Global negatives: nodes drawn from whole tables."""

import dataclasses

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core.checks import check_range
from twhin_tf.model.log_q import LogQ
from twhin_tf.model.negatives import (
    Candidates,
    Degrees,
    Negatives,
    Sampler,
    Sides,
    derived,
)
from twhin_tf.model.node_tables import NodeTables


@gin.register
@dataclasses.dataclass(frozen=True)
class GlobalNegatives(Negatives):
    """Nodes from a whole table, shared by the batch.

    Drawn with probability proportional to (edges of the node)^power: 0 for uniformly,
    0.75 as word2vec does (Mikolov et al. 2013, section 2.2).

    Args:
        count: candidates per side and node type, at least 1.
        power: of a node's number of training edges on the side, in [0, 1].
        log_q: subtract the log of a node's probability from scores; of no use to a
            uniform distribution.
        sides: which ends of an edge they stand in for.
    """

    count: int = 100
    power: float = 0.0
    log_q: bool = False
    sides: Sides = "both"

    def __post_init__(self):
        check_range("GlobalNegatives.count", self.count, at_least=1)
        check_range("GlobalNegatives.power", self.power, at_least=0, at_most=1)

    @property
    def needs_degrees(self):
        return self.power > 0

    def prepare(self, tables, degrees):
        return GlobalSampler(self, tables, degrees)


class GlobalSampler(Sampler):
    """Draws `GlobalNegatives`."""

    def __init__(self, settings: GlobalNegatives, tables: NodeTables, degrees: Degrees):
        super().__init__(settings.sides, tables)
        self._count = settings.count
        self._cumulated: dict[str, list[tf.Tensor]] | None = None
        self._log_q = None
        if settings.needs_degrees:
            shares = {
                side: [_shares(degree, settings.power) for degree in by_type]
                for side, by_type in degrees.items()
            }
            self._cumulated = {
                side: [tf.constant(np.cumsum(share), tf.float64) for share in by_type]
                for side, by_type in shares.items()
            }
            if settings.log_q:
                self._log_q = LogQ(shares)

    def draw_rows(self, seed):
        return {
            side: self._rows_of_side(side, derived(seed, number))
            for number, side in enumerate(self.ends)
        }

    def of_side(self, batch, side, seed):
        group = self.tables.group(batch.relation, side)
        if (self, side) in batch.drawn:
            rows, vectors = batch.drawn[self, side]
        else:
            rows = self._rows_of_side(side, seed)
            vectors = [
                self.tables.vectors(number, row)
                for number, row in zip(
                    self.tables.type_numbers(side), rows, strict=True
                )
            ]
        rows = tf.stack(rows)
        log_q = None
        if self._log_q is not None:
            log_q = self._log_q.of(side, rows, batch.rows[side], group)
        return [Candidates(tf.stack(vectors), group, rows, log_q=log_q)]

    def _rows_of_side(self, side, seed) -> list[tf.Tensor]:
        return [
            self._rows(side, place, number, derived(seed, place))
            for place, number in enumerate(self.tables.type_numbers(side))
        ]

    def _rows(self, side, place, number, seed) -> tf.Tensor:
        size = self.tables.rows(number)
        if self._cumulated is None:
            return tf.random.stateless_uniform([self._count], seed, 0, size, tf.int32)
        cumulated = self._cumulated[side][place]
        at = tf.random.stateless_uniform([self._count], seed, dtype=tf.float64)
        rows = tf.searchsorted(cumulated, at * cumulated[-1], side="right")
        return tf.minimum(rows, size - 1)


def _shares(degree: np.ndarray, power: float) -> np.ndarray:
    """The probability of each row of a type, (rows,)."""
    weights = (degree + 0.0) ** power
    # Of a type that no training edge has: uniformly.
    weights = weights if weights.any() else weights + 1.0
    return weights / weights.sum()
