"""Edges in visits: the batches of a graph whose node tables are partly in memory.

A turn takes a share of the edges of all pairs of partitions, in visits
(`partition_order`); a visit takes its edges in pieces, which are loaded whole.
"""

import dataclasses
import time
from collections.abc import Mapping
from typing import Any

import numpy as np

from recap_tf.core.command import UserError, say
from recap_tf.core.training.loop import Event
from twhin_tf.partitions.partition_buffer import PartitionBuffer
from twhin_tf.partitions.partition_layout import Layout
from twhin_tf.partitions.partition_order import Visit, visits
from twhin_tf.partitions.partitioned_edges import PartitionedEdges, PieceBatches
from twhin_tf.training.peak_memory import peak_megabytes

_SECONDS_BETWEEN_LINES = 10


@dataclasses.dataclass
class _Position:
    """The next batch.

    Args:
        turn: passes over a share of the edges of all pairs that are done.
        start: what the buffer held at its beginning.
        visit: within the turn.
        piece: of the visit's edges.
        done: batches of it.
    """

    turn: int
    start: list[int]
    visit: int = 0
    piece: int = 0
    done: int = 0


class PartitionedInput:
    """Batches of edges, with the partitions that they need in the buffer.

    Args:
        edges: of the graph, by pairs of partitions.
        buffer: the partitions in memory.
        layout: of the node tables.
        chunks: shares of a pair's edges; a turn takes one of each pair.
        batch_size: edges per batch.
        seed: of the order of visits.
    """

    def __init__(
        self,
        edges: PartitionedEdges,
        buffer: PartitionBuffer,
        layout: Layout,
        chunks: int,
        batch_size: int,
        seed: int,
    ):
        self._edges, self._buffer, self._layout = edges, buffer, layout
        self._chunks, self._batch_size, self._seed = chunks, batch_size, seed
        self._batches = PieceBatches(batch_size)
        self._where = _Position(turn=0, start=list(range(layout.buffer)))
        self._plan: list[Visit] = []
        self._said = 0.0

    def warn_of_short_visits(self) -> None:
        """Says so if visits have fewer edges than a batch of each share takes."""
        plan = self._visits(self._where)
        edges = sum(self._edges.count(visit) for visit in plan)
        if edges < len(plan) * self._chunks * self._batch_size:
            say(
                f"A visit has {edges // len(plan) // self._chunks} edges on "
                "average and repeats some to fill its batches. A smaller "
                "twhin.train.batch_size or fewer Partitions.chunks avoid it."
            )

    def start(self) -> PieceBatches:
        """The batches from the position on; fills the buffer."""
        where = self._where
        self._plan = self._visits(where)
        self._buffer.fill(self._plan[where.visit].held)
        self._load_piece()
        return self._batches

    def position(self) -> dict[str, Any]:
        """Which batch comes next, for a checkpoint."""
        return dataclasses.asdict(self._where) | {"done": self._batches.done}

    def go_to(self, position: Mapping[str, Any]) -> None:
        """Makes `start` begin at what `position` returned."""
        self._where = _Position(**position)

    def events(self) -> list[Event]:
        """The next piece, when the edges in memory have been trained on."""
        return [_PieceEnd(every=1, call=self._next_piece, batches=self._batches)]

    def numbers(self) -> dict[str, float]:
        """Where in the graph training is, for the log."""
        return {
            "partitions/turn": self._where.turn,
            "partitions/visit": self._where.visit,
            "partitions/swaps": self._buffer.swaps,
            "partitions/peak_megabytes": peak_megabytes(),
        }

    def _visits(self, where: _Position) -> list[Visit]:
        rng = np.random.default_rng([self._seed, where.turn])
        return visits(self._layout.count, where.start, rng)

    def _next_piece(self, step: int, losses: Mapping[str, float]) -> None:
        self._buffer.touch()
        self._go_on()
        self._load_piece()

    def _load_piece(self) -> None:
        """Brings the edges of the present piece in, or those of the next that has any.

        Raises:
            UserError: there are none in a whole turn.
        """
        turn = self._where.turn
        while True:
            where, chunks = self._where, self._chunks
            visit = self._plan[where.visit]
            self._buffer.change(visit.held)
            edges = self._edges.piece(
                visit, where.piece, where.turn % chunks, chunks, where.turn
            )
            if len(edges):
                break
            if where.turn > turn + chunks:
                raise UserError("There are no edges to train on.")
            self._go_on()
        self._batches.load(self._layout.to_memory(edges, visit.held), where.done)
        self._say_where(visit, len(edges))

    def _go_on(self) -> None:
        """Moves to the next piece, visit or turn."""
        where, visit = self._where, self._plan[self._where.visit]
        where.piece, where.done = where.piece + 1, 0
        if where.piece < self._edges.piece_count(visit, self._chunks):
            return
        where.piece, where.visit = 0, where.visit + 1
        if where.visit < len(self._plan):
            return
        self._where = _Position(where.turn + 1, list(visit.held))
        self._plan = self._visits(self._where)

    def _say_where(self, visit: Visit, edges: int) -> None:
        now, where = time.monotonic(), self._where
        if now - self._said > _SECONDS_BETWEEN_LINES:
            self._said = now
            say(
                f"Turn {where.turn + 1}, visit {where.visit + 1} of {len(self._plan)}: "
                f"partitions {', '.join(map(str, visit.held))}, {edges:,} edges; "
                f"{self._buffer.swaps} swaps, {peak_megabytes():,.0f} MB at most."
            )


@dataclasses.dataclass(frozen=True)
class _PieceEnd(Event):
    """Comes when the edges in memory have been trained on."""

    batches: PieceBatches

    def ahead(self, done: int) -> int:
        return self.batches.count - self.batches.done
