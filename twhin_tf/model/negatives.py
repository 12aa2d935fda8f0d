"""Negatives: nodes that stand in for one end of an edge.

All shapes are static: a sampler offers each group of edges (those of one relation, or
with one node type on the side in question) the same number of candidates, and each
edge is compared with those of its group.

    in_batch_negatives  ends of other edges of the batch
    global_negatives    nodes from whole tables, drawn
    all_nodes           every node of a type
    log_q               how likely each was to be drawn, taken out of the scores
    known_pairs         candidates that make a true edge
"""

import abc
import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import tensorflow as tf

from twhin_tf.model.edge_batch import EdgeBatch, Side
from twhin_tf.model.node_tables import NodeTables

Sides = Literal["both", "lhs", "rhs"]

Degrees = Mapping[str, Sequence[np.ndarray]]
"""Side -> for each of `NodeTables.type_numbers(side)`, (rows,) how many training edges
every row has there; empty for samplers without `needs_degrees`."""


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


class Negatives(abc.ABC):
    """The settings of a sampler; they never change.

    Attributes:
        sides: which ends of an edge candidates stand in for.
    """

    sides: Sides

    @property
    def needs_degrees(self) -> bool:
        """Whether the sampler goes by how many training edges nodes have."""
        return False

    @abc.abstractmethod
    def prepare(self, tables: NodeTables, degrees: Degrees) -> "Sampler":
        """Makes the sampler of a graph.

        Args:
            tables: of the graph.
            degrees: see `Degrees`.
        """


class Sampler(abc.ABC):
    """Draws candidates from a graph.

    Args:
        sides: which ends of an edge they stand in for.
        tables: of the graph.
    """

    def __init__(self, sides: Sides, tables: NodeTables):
        self.ends: tuple[Side, ...] = ("lhs", "rhs") if sides == "both" else (sides,)
        self.tables = tables

    def draw_rows(self, seed: tf.Tensor) -> dict[Side, list[tf.Tensor]]:
        """Rows of whole tables that `draw` with the same seed looks up.

        Returns:
            side -> for each of `tables.type_numbers(side)`, (n,) int32; empty for a
            sampler that takes its candidates from the batch.
        """
        return {}

    def draw(self, batch: EdgeBatch, seed: tf.Tensor) -> list[tuple[Side, Candidates]]:
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

    @abc.abstractmethod
    def of_side(
        self, batch: EdgeBatch, side: Side, seed: tf.Tensor
    ) -> list[Candidates]:
        """The candidates of one side."""


def of_group(candidates: tf.Tensor, group: tf.Tensor) -> tf.Tensor:
    """What each edge's group has: (groups, n), (batch,) -> (batch, n).

    (1, n) for one group.
    """
    return candidates if candidates.shape[0] == 1 else tf.gather(candidates, group)


def derived(seed: tf.Tensor, number: int) -> tf.Tensor:
    """A seed of its own for each `number` below 1000: (2,) int64 -> (2,) int64."""
    return seed * tf.constant([1, 1009], tf.int64) + tf.constant([0, number], tf.int64)
