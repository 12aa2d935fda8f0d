"""Trains graph embeddings that are larger than memory, partition by partition.

A pass takes every edge once, in visits: edges whose ends are in partitions that are in
memory together, then a swap (`partition_order`). To the model, the graph is what is in
memory. A checkpoint refers to the partitions' files, which never change, and says which
batch comes next.
"""

import dataclasses
import pathlib
import posixpath
import resource
import time
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from recap_tf.core.command import UserError, say
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.training import checkpoints, loop
from twhin_tf.graph.graph import read_graph
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.partitions.partition_buffer import VECTOR, PartitionBuffer
from twhin_tf.partitions.partition_files import PartitionFiles, RowFormat, Versions
from twhin_tf.partitions.partition_order import Visit, visits
from twhin_tf.partitions.partitioned_edges import PartitionedEdges, PieceBatches
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.partitioned_checkpoints import (
    PARTITIONS,
    PartitionsState,
    Resident,
    claim,
    read_partitions_state,
)
from twhin_tf.training.trainer import Trainer

_SECONDS_BETWEEN_LINES = 10
_FOLDER = "partitions"


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


class PartitionedTrainer(Trainer):
    """A run of training with `twhin.train.partitions`.

    Args:
        embedder: what to train.
        settings: how.
        config: the settings in force as text, saved beside every checkpoint.
        eager: one plain step at a time, for debugging.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: TrainSettings,
        config: str,
        eager: bool = False,
    ):
        _check(embedder, settings)
        self._partitions = settings.partitions
        graph = read_graph(embedder.graph)
        formats = {
            name: RowFormat.of(embedder.tables.get(name, embedder.table), embedder.dim)
            for name in graph.types
        }
        row_bytes = {name: one.record.itemsize for name, one in formats.items()}
        self._layout = self._partitions.layout(graph, row_bytes)
        folder = self._partitions.folder or posixpath.join(settings.save_dir, _FOLDER)
        formats = {name: formats[name] for name in self._layout.parted}
        self._files = PartitionFiles(folder, self._layout, formats, settings.seed)
        if self._partitions.folder is not None:
            claim(folder, settings.save_dir)
        # Zeros, as rows come from files: initializers take several times the memory.
        tables = dict.fromkeys(graph.types, embedder.table) | dict(embedder.tables)
        for name in self._layout.parted:
            tables[name] = dataclasses.replace(tables[name], initializer="zeros")
        super().__init__(
            dataclasses.replace(embedder, tables=tables),
            settings,
            config,
            eager,
            self._layout.in_memory(),
        )
        self._edges = PartitionedEdges(
            folder, settings.edges, self._layout, settings.seed
        )
        self._buffer = PartitionBuffer(self._files, self._variables())
        self._batches = PieceBatches(settings.batch_size)
        self._where = _Position(turn=0, start=list(range(self._layout.buffer)))
        self._said = 0.0
        say(
            f"{self._layout.count} partitions, {self._layout.buffer} of them in "
            f"memory: {self._row_megabytes(row_bytes):,.1f} MB of rows."
        )
        plan = self._visits(self._where)
        edges = sum(self._edges.count(visit) for visit in plan)
        if edges < len(plan) * self._partitions.chunks * settings.batch_size:
            say(
                f"A visit has {edges // len(plan) // self._partitions.chunks} edges on "
                "average and repeats some to fill its batches. A smaller "
                "twhin.train.batch_size or fewer Partitions.chunks avoid it."
            )

    def _variables(self) -> dict[str, dict[str, tf.Variable]]:
        found = {}
        for name, optimizer in self._optimizers_of_parted().items():
            table = self.model.tables[name]
            state = self._files.formats[name].state
            slots = {field: optimizer.get_slot(table, field) for field in state}
            found[name] = {VECTOR: table, **slots}
        return found

    def _optimizers_of_parted(self) -> dict[str, Optimizer]:
        """Type -> its optimizer; a type without a relation has none, and no rows in
        memory."""
        groups = {n: self._groups.get(f"table/{n}") for n in self._layout.parted}
        return {name: own[0] for name, own in groups.items() if own is not None}

    def _row_megabytes(self, row_bytes: Mapping[str, int]) -> float:
        rows = self._layout.in_memory().rows
        return sum(rows[name] * row_bytes[name] for name in rows) / 1e6

    def _make_checkpoints(self):
        parted = {f"table/{name}" for name in self._layout.parted}
        optimizers = {
            name: optimizer
            for name, (optimizer, _) in self._groups.items()
            if name not in parted
        }
        return checkpoints.Checkpoints(
            self._settings.save_dir,
            Resident(self.model, self._layout),
            {"optimizers": optimizers, "step": self._step},
            self._settings.checkpoints_to_keep,
        )

    def _restore(self, path):
        state = read_partitions_state(path)
        if state is None:
            raise UserError(
                f"{path} was trained without twhin.train.partitions and can only go on "
                "like that. Change twhin.train.save_dir, or set partitions to None."
            )
        state.check_goes_on(path, self._state())
        self._checkpoints.restore(path)
        self._files.go_on_from(state.versions)
        for name in self._layout.parted:
            self._files.check_complete(name)
        self._where = _Position(**state.position)
        for optimizer in self._optimizers_of_parted().values():
            optimizer.iterations.assign(self._step)

    def _start_reading(self, resumed):
        self._files.remove_all_but(self._kept())
        where = self._where
        self._plan = self._visits(where)
        self._buffer.fill(self._plan[where.visit].held)
        self._load_piece()
        return self._batches

    def _visits(self, where: _Position) -> list[Visit]:
        rng = np.random.default_rng([self._settings.seed, where.turn])
        return visits(self._layout.count, where.start, rng)

    def _load_piece(self) -> None:
        """Brings the edges of the present piece in, or those of the next that has any.

        Raises:
            UserError: there are none in a whole turn.
        """
        turn = self._where.turn
        while True:
            where, chunks = self._where, self._partitions.chunks
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
        if where.piece < self._edges.piece_count(visit, self._partitions.chunks):
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

    def _input_events(self):
        return [_PieceEnd(every=1, call=self._next_piece, batches=self._batches)]

    def _next_piece(self, step: int, losses: Mapping[str, float]) -> None:
        self._buffer.touch()
        self._go_on()
        self._load_piece()

    def _input_numbers(self):
        return {
            "partitions/turn": self._where.turn,
            "partitions/visit": self._where.visit,
            "partitions/swaps": self._buffer.swaps,
            "partitions/peak_megabytes": peak_megabytes(),
        }

    def _save(self, step):
        save_dir = self._settings.save_dir
        if checkpoints.checkpoint_path(save_dir, step) in checkpoints.list_checkpoints(
            save_dir
        ):
            return
        self._buffer.touch()
        self._buffer.flush()
        self._where.done = self._batches.done
        super()._save(step, {PARTITIONS: self._state().text()})
        # Files of older checkpoints go only once the new one is complete.
        self._checkpoints.wait()
        self._files.remove_all_but(self._kept())

    def _state(self) -> PartitionsState:
        layout, files = self._layout, self._files
        folder = files.folder
        if self._partitions.folder is None:
            # So that save_dir can be moved.
            folder = posixpath.join("..", "..", _FOLDER)
        return PartitionsState(
            folder=folder,
            count=layout.count,
            buffer=layout.buffer,
            whole=sorted(layout.whole),
            seed=files.seed,
            formats={n: dataclasses.asdict(f) for n, f in files.formats.items()},
            versions=files.versions,
            position=dataclasses.asdict(self._where),
        )

    def _kept(self) -> list[Versions]:
        found = checkpoints.list_checkpoints(self._settings.save_dir)
        states = map(read_partitions_state, found)
        return [state.versions for state in states if state is not None]


@dataclasses.dataclass(frozen=True)
class _PieceEnd(loop.Event):
    """Comes when the edges in memory have been trained on."""

    batches: PieceBatches

    def ahead(self, done):
        return self.batches.count - self.batches.done


def peak_megabytes() -> float:
    """The most memory that this process has had so far, in millions of bytes.

    `getrusage` is the fallback only: on Linux its figure starts at the size of the
    process that started this one.
    """
    try:
        status = pathlib.Path("/proc/self/status").read_text()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    return int(status.split("VmHWM:")[1].split()[0]) * 1024 / 1e6


def _check(embedder: Embedder, settings: TrainSettings) -> None:
    """Refuses what partitions cannot be trained with.

    Raises:
        UserError: a setting is one of those.
    """
    for sampler in embedder.negatives:
        kind = type(sampler).__name__
        if isinstance(sampler, AllNodes):
            raise UserError(
                "twhin.embedder.negatives cannot be all nodes with "
                f"twhin.train.partitions, which are not in memory. Received: {kind}"
            )
        if sampler.needs_degrees:
            raise UserError(
                "twhin.embedder.negatives cannot go by nodes' numbers of edges with "
                "twhin.train.partitions: set power = 0, log_q = False. "
                f"Received: {kind}"
            )
    if settings.strategy != "one_device":
        raise UserError(
            'twhin.train.strategy must be "one_device" with twhin.train.partitions. '
            f"Received: {settings.strategy!r}"
        )
    if settings.warm_start is not None:
        raise UserError(
            "twhin.train.warm_start must be None with twhin.train.partitions. "
            f"Received: {settings.warm_start}"
        )
    if settings.edges.data_service is not None:
        raise UserError(
            "Edges.data_service must be None with twhin.train.partitions. "
            f"Received: {settings.edges.data_service!r}"
        )
