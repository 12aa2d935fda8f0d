"""Trains graph embeddings that are larger than memory, partition by partition.

A pass takes every edge once, in visits: edges whose ends are in partitions that are in
memory together, then a swap (`partitioned_input`). To the model, the graph is what is
in memory. A checkpoint refers to the partitions' files, which never change, and says
which batch comes next.
"""

import dataclasses
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from recap_tf.core.command import UserError, say
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.training import checkpoints
from recap_tf.core.training.loop import Event
from recap_tf.core.training.run import RunParts, SavedBeside
from recap_tf.core.training.strategy import make_strategy
from twhin_tf.graph.graph import read_graph
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.partitions.partition_buffer import VECTOR, PartitionBuffer
from twhin_tf.partitions.partition_files import PartitionFiles, RowFormat, Versions
from twhin_tf.partitions.partitioned_edges import PartitionedEdges, PieceBatches
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.model_in_training import ModelInTraining
from twhin_tf.training.partitioned_checkpoints import (
    PARTITIONS,
    PartitionsState,
    Resident,
    claim,
    read_partitions_state,
)
from twhin_tf.training.partitioned_input import PartitionedInput

_FOLDER = "partitions"


class PartitionedTraining(RunParts):
    """Training with `twhin.train.partitions`.

    Args:
        embedder: what to train.
        settings: how.
        eager: one plain step at a time; nothing here depends on it.

    Attributes:
        model: the rows that are in memory.
    """

    def __init__(self, embedder: Embedder, settings: TrainSettings, eager: bool):
        _check(embedder, settings)
        self._settings = settings
        graph = read_graph(embedder.graph)
        formats = {
            name: RowFormat.of(embedder.tables.get(name, embedder.table), embedder.dim)
            for name in graph.types
        }
        row_bytes = {name: row.record.itemsize for name, row in formats.items()}
        self._layout = layout = settings.partitions.layout(graph, row_bytes)
        folder = settings.partitions.folder
        if folder is None:
            folder = posixpath.join(settings.save_dir, _FOLDER)
        formats = {name: formats[name] for name in layout.parted}
        self._files = PartitionFiles(folder, layout, formats, settings.seed)
        if settings.partitions.folder is not None:
            claim(folder, settings.save_dir)
        # Zeros, as rows come from files: initializers take several times the memory.
        tables = dict.fromkeys(graph.types, embedder.table) | dict(embedder.tables)
        for name in layout.parted:
            tables[name] = dataclasses.replace(tables[name], initializer="zeros")
        self._trained = trained = ModelInTraining(
            dataclasses.replace(embedder, tables=tables),
            settings,
            make_strategy(settings.strategy),
            layout.in_memory(),
        )
        self.model, self.step = trained.model, trained.step
        self.optimizer, self.train_step = trained.optimizer, trained.training_step()
        parted = {f"table/{name}" for name in layout.parted}
        optimizers = {
            name: optimizer
            for name, (optimizer, _) in trained.groups.items()
            if name not in parted
        }
        self.checkpoints = checkpoints.Checkpoints(
            settings.save_dir,
            Resident(trained.model, layout),
            {"optimizers": optimizers, "step": trained.step},
            settings.checkpoints_to_keep,
        )
        self._buffer = PartitionBuffer(self._files, self._variables())
        self._input = PartitionedInput(
            PartitionedEdges(folder, settings.edges, layout, settings.seed),
            self._buffer,
            layout,
            settings.partitions.chunks,
            settings.batch_size,
            settings.seed,
        )
        rows = layout.in_memory().rows
        megabytes = sum(rows[name] * row_bytes[name] for name in rows) / 1e6
        say(
            f"{layout.count} partitions, {layout.buffer} of them in memory: "
            f"{megabytes:,.1f} MB of rows."
        )
        self._input.warn_of_short_visits()

    def _variables(self) -> dict[str, dict[str, tf.Variable]]:
        """Type -> what holds its rows in memory, see `PartitionBuffer`."""
        variables = {}
        for name, optimizer in self._optimizers_of_parted().items():
            table = self.model.tables[name]
            state = self._files.formats[name].state
            slots = {field: optimizer.get_slot(table, field) for field in state}
            variables[name] = {VECTOR: table, **slots}
        return variables

    def _optimizers_of_parted(self) -> dict[str, Optimizer]:
        """Type -> its optimizer; a type without a relation has none, and no rows in
        memory."""
        groups = self._trained.groups
        return {
            name: groups[f"table/{name}"][0]
            for name in self._layout.parted
            if f"table/{name}" in groups
        }

    def restore(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._trained.check_goes_on_from(path)
        state = read_partitions_state(path)
        if state is None:
            raise UserError(
                f"{path} was trained without twhin.train.partitions and can only go on "
                "like that. Change twhin.train.save_dir, or set partitions to None."
            )
        state.check_goes_on(path, self._state())
        self.checkpoints.restore(path)
        self._files.go_on_from(state.versions)
        for name in self._layout.parted:
            self._files.check_complete(name)
        self._input.go_to(state.position)
        for optimizer in self._optimizers_of_parted().values():
            optimizer.iterations.assign(self.step)

    def start_input(self, resumed: str | None) -> PieceBatches:
        self._files.remove_all_but(self._referred_to())
        return self._input.start()

    def input_events(self) -> Sequence[Event]:
        return self._input.events()

    def numbers(self, steps_per_second: float) -> Mapping[str, float]:
        return {**self._input.numbers(), **self._trained.speeds(steps_per_second)}

    def before_save(self, step: int) -> SavedBeside:
        self._buffer.touch()
        self._buffer.flush()
        texts = {PARTITIONS: self._state().text()}
        return SavedBeside(metadata=self._trained.metadata, texts=texts)

    def after_save(self) -> None:
        # Files of older checkpoints go only once the new one is complete.
        self.checkpoints.wait()
        self._files.remove_all_but(self._referred_to())

    def _state(self) -> PartitionsState:
        layout, files = self._layout, self._files
        folder = files.folder
        if self._settings.partitions.folder is None:
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
            position=self._input.position(),
        )

    def _referred_to(self) -> list[Versions]:
        """The partitions' versions in each of the checkpoints."""
        paths = checkpoints.list_checkpoints(self._settings.save_dir)
        states = map(read_partitions_state, paths)
        return [state.versions for state in states if state is not None]


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
