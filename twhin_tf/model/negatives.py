"""Negatives: nodes that stand in for one end of an edge.

All shapes are static: a sampler offers each group of edges (those of one relation, or
with one node type on the side in question) the same number of candidates, and each
edge is compared with those of its group.
"""

import dataclasses
from typing import Literal

import gin
import numpy as np
import tensorflow as tf

from twhin_tf.model.batch_draws import draw_places
from twhin_tf.model.edge_batch import Batch, Side
from twhin_tf.model.node_tables import NodeTables

Sides = Literal["both", "lhs", "rhs"]


@dataclasses.dataclass(frozen=True)
class Candidates:
    """Nodes to compare with the other end of each edge of a batch.

    Args:
        vectors: (groups, n, dim).
        group: (batch,): whose candidates an edge gets.
        rows: (groups, n) int32; none where they need no looking at.
        transformed: they are left-hand sides that the relation's operator has seen.
        log_q: (groups, n) log-probabilities of being drawn, and those of the edges'
            own nodes (batch,); none to leave the scores as they are.
        columns: where an edge's own node is among them, (batch,) the place.
    """

    vectors: tf.Tensor
    group: tf.Tensor
    rows: tf.Tensor | None = None
    transformed: bool = False
    log_q: tuple[tf.Tensor, tf.Tensor] | None = None
    columns: tf.Tensor | None = None


class Negatives:
    """Draws candidates. What it needs to know of the graph comes by `prepare`."""

    sides: Sides = "both"
    needs_degrees = False

    def prepare(self, tables: NodeTables, degrees: dict[str, list[np.ndarray]]) -> None:
        """Gets ready.

        Args:
            tables: of the graph.
            degrees: side -> for each of `tables.type_numbers(side)`, how many training
                edges every row has there; empty unless `needs_degrees`.
        """
        self.tables, self.degrees = tables, degrees

    def draw_rows(self, seed: tf.Tensor) -> dict[Side, list[tf.Tensor]]:
        """Rows of whole tables that `draw` with the same seed looks up.

        Returns:
            side -> for each of `tables.type_numbers(side)`, (n,) int32; empty for a
            sampler that takes its candidates from the batch.
        """
        return {}

    def draw(self, batch: Batch, seed: tf.Tensor) -> list[tuple[Side, Candidates]]:
        """Candidates for every edge, with the end that they stand in for.

        Args:
            batch: the edges.
            seed: (2,) int64; the same seed draws the same.
        """
        return [
            (side, candidates)
            for number, side in enumerate(self.ends)
            for candidates in self.of_side(batch, side, derived(seed, number))
        ]

    def of_side(self, batch: Batch, side: Side, seed: tf.Tensor) -> list[Candidates]:
        """The candidates of one side."""
        raise NotImplementedError("A sampler of negatives defines of_side().")

    @property
    def ends(self) -> tuple[Side, ...]:
        """The sides, one by one."""
        return ("lhs", "rhs") if self.sides == "both" else (self.sides,)


@gin.register
class InBatchNegatives(Negatives):
    """Other edges' nodes: `count` of each relation, drawn without replacement.

    The relation's edges in the batch in a random order, repeated until there are
    `count`. Every edge of the relation gets the same. (TwHIN, section 3.)

    Args:
        count: candidates per side.
        sides: which ends of an edge they stand in for.
    """

    def __init__(self, count: int = 10, sides: Sides = "both"):
        self.count, self.sides = _at_least_one("InBatchNegatives", count), sides

    def draw(self, batch, seed):
        groups, ends = len(self.tables.relations), self.ends
        places = draw_places(batch.relation, groups, self.count * len(ends), seed)
        # Both sides share one order, of which one takes the beginning, the other what
        # follows.
        parts = tf.split(places, len(ends), axis=1)
        return [
            (side, self.at(batch, side, part))
            for side, part in zip(ends, parts, strict=True)
        ]

    def at(self, batch: Batch, side: Side, places: tf.Tensor) -> Candidates:
        """The candidates at `places`, (relations, count), of the batch."""
        return Candidates(
            vectors=batch.take("queries" if side == "lhs" else "rhs", places),
            group=batch.relation,
            rows=tf.gather(batch.rows[side], places),
            transformed=side == "lhs",
        )


@gin.register
class SharedInBatchNegatives(Negatives):
    """Other edges' nodes of the same type, whatever their relation.

    Frequent nodes are drawn more often; `log_q` takes that out of the scores, with the
    share of training edges that a node has on the side (Yi et al. 2019, "Sampling-bias-
    corrected neural modeling", eq. 3).

    Args:
        count: candidates per side and node type.
        log_q: subtract the log of the share from scores.
        sides: which ends of an edge they stand in for.
    """

    def __init__(self, count: int = 100, log_q: bool = True, sides: Sides = "both"):
        self.count = _at_least_one("SharedInBatchNegatives", count)
        self.log_q, self.sides = log_q, sides
        self.needs_degrees = log_q

    def prepare(self, tables, degrees):
        super().prepare(tables, degrees)
        if self.log_q:
            self._log_shares = _LogShares(
                {side: [d / max(d.sum(), 1) for d in degrees[side]] for side in degrees}
            )

    def of_side(self, batch, side, seed):
        group = self.tables.group(batch.relation, side)
        groups = len(self.tables.type_numbers(side))
        places = draw_places(group, groups, self.count, seed)
        rows = tf.gather(batch.rows[side], places)
        log_q = None
        if self.log_q:
            log_q = self._log_shares.of(side, rows, batch.rows[side], group)
        vectors = batch.take(side, places)
        return [Candidates(vectors, group, rows, log_q=log_q)]


@gin.register
class GlobalNegatives(Negatives):
    """Nodes from a whole table, shared by the batch.

    Drawn with probability proportional to (edges of the node)^power: 0 for uniformly,
    0.75 as word2vec does (Mikolov et al. 2013, section 2.2).

    Args:
        count: candidates per side and node type.
        power: of a node's number of training edges on the side.
        log_q: subtract the log of a node's probability from scores; of no use to a
            uniform distribution.
        sides: which ends of an edge they stand in for.
    """

    def __init__(
        self,
        count: int = 100,
        power: float = 0.0,
        log_q: bool = False,
        sides: Sides = "both",
    ):
        self.count = _at_least_one("GlobalNegatives", count)
        if not 0 <= power <= 1:
            raise ValueError(
                f"GlobalNegatives.power must be from 0 to 1. Received: {power}"
            )
        self.power, self.log_q, self.sides = power, log_q and power > 0, sides
        self.needs_degrees = power > 0

    def prepare(self, tables, degrees):
        super().prepare(tables, degrees)
        if not self.needs_degrees:
            return
        shares, self._cumulated = {}, {}
        for side, by_type in degrees.items():
            weights = [(degree + 0.0) ** self.power for degree in by_type]
            # Of a type that no training edge has: uniformly.
            weights = [w if w.any() else w + 1.0 for w in weights]
            shares[side] = [w / w.sum() for w in weights]
            self._cumulated[side] = [
                tf.constant(np.cumsum(share), tf.float64) for share in shares[side]
            ]
        self._log_shares = _LogShares(shares)

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
        if self.log_q:
            log_q = self._log_shares.of(side, rows, batch.rows[side], group)
        return [Candidates(tf.stack(vectors), group, rows, log_q=log_q)]

    def _rows_of_side(self, side, seed) -> list[tf.Tensor]:
        return [
            self._rows(side, place, number, derived(seed, place))
            for place, number in enumerate(self.tables.type_numbers(side))
        ]

    def _rows(self, side, place, number, seed) -> tf.Tensor:
        size = self.tables.rows(number)
        if not self.needs_degrees:
            return tf.random.stateless_uniform([self.count], seed, 0, size, tf.int32)
        cumulated = self._cumulated[side][place]
        at = tf.random.stateless_uniform([self.count], seed, dtype=tf.float64)
        rows = tf.searchsorted(cumulated, at * cumulated[-1], side="right")
        return tf.minimum(rows, size - 1)


@gin.register
class AllNodes(Negatives):
    """Every node of the type; a softmax over them is not sampled.

    For tables small enough to multiply a batch with. Known true pairs stay among them,
    as in the "full multiclass" loss of Lacroix et al. 2018 (arXiv:1806.07297).

    Args:
        sides: which ends of an edge they stand in for.
    """

    def __init__(self, sides: Sides = "both"):
        self.sides = sides

    def prepare(self, tables, degrees):
        super().prepare(tables, degrees)
        for name, table in tables.variables_of.items():
            if table.dtype != tf.float32:
                raise ValueError(
                    "twhin.embedder.negatives: AllNodes updates tables whole, and so "
                    f"needs NodeTable.storage = 'float32' for type {name!r}. "
                    f"Received: {table.dtype.name!r}"
                )

    def of_side(self, batch, side, seed):
        group = self.tables.group(batch.relation, side)
        return [
            Candidates(
                vectors=tf.convert_to_tensor(self.tables.table(number))[tf.newaxis],
                group=tf.zeros_like(group),
                # Of another type: not among them.
                columns=tf.where(group == place, batch.rows[side], -1),
            )
            for place, number in enumerate(self.tables.type_numbers(side))
        ]


class _LogShares:
    """Log-probabilities of the rows of each type on each side."""

    def __init__(self, shares: dict[str, list[np.ndarray]]):
        self._starts, self._logs = {}, {}
        for side, by_type in shares.items():
            sizes = [0, *(len(share) for share in by_type)]
            self._starts[side] = tf.constant(np.cumsum(sizes)[:-1], tf.int64)
            joined = np.concatenate(by_type)
            # A node that is never drawn, but met in another split.
            joined = np.maximum(joined, joined[joined > 0].min(initial=1.0))
            self._logs[side] = tf.constant(np.log(joined), tf.float32)

    def of(self, side, rows, own_rows, group) -> tuple[tf.Tensor, tf.Tensor]:
        """Of candidates (groups, n), and of the edges' own nodes (batch,)."""
        starts, logs = self._starts[side], self._logs[side]
        drawn = tf.gather(logs, starts[:, tf.newaxis] + tf.cast(rows, tf.int64))
        own = tf.gather(starts, group) + tf.cast(own_rows, tf.int64)
        return drawn, tf.gather(logs, own)


def known_pairs(
    anchors: tf.Tensor,
    relation: tf.Tensor,
    rows: tf.Tensor,
    candidates: tf.Tensor,
    group: tf.Tensor,
) -> tf.Tensor:
    """Whether an edge's candidate makes a pair that is an edge of the batch.

    Args:
        anchors: (batch,): the edges' ends that stay.
        relation: (batch,).
        rows: (batch,): the ends that are replaced.
        candidates: (groups, n): by what.
        group: (batch,): whose candidates an edge gets; a relation is in one group.

    Returns:
        (batch, n) bool.
    """
    batch = rows.shape[0]
    key = tf.cast(relation, tf.int64) * 2**32 + tf.cast(anchors, tf.int64)
    # Edges with the same relation and anchor have a number in common.
    query = tf.unique(key).idx
    same = tf.cast(rows[:, tf.newaxis] == own_row(candidates, group), tf.float32)
    answers = tf.math.unsorted_segment_sum(same, query, batch)
    return tf.gather(answers, query) > 0


def own_row(candidates: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """(groups, n), (batch,) -> (batch, n), or (1, n) for one group."""
    return candidates if candidates.shape[0] == 1 else tf.gather(candidates, group)


def derived(seed: tf.Tensor, number: int) -> tf.Tensor:
    """(2,) int64 -> a seed of its own for each `number` below 1000."""
    return seed * tf.constant([1, 1009], tf.int64) + tf.constant([0, number], tf.int64)


def _at_least_one(owner: str, count: int) -> int:
    if count < 1:
        raise ValueError(f"{owner}.count must be at least 1. Received: {count}")
    return count
