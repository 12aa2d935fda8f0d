"""Trains graph embeddings whose node tables are in memory, on one device or several."""

import functools
from collections.abc import Iterator, Mapping
from typing import Any

from recap_tf.core.training.checkpoints import Checkpoints
from recap_tf.core.training.input_position import ResumableInput
from recap_tf.core.training.run import RunParts, SavedBeside
from recap_tf.core.training.strategy import iterate, make_strategy
from twhin_tf.graph.edge_batches import read_edge_batches
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.model_in_training import ModelInTraining


class MemoryTraining(RunParts):
    """Training with strategy "one_device", "mirrored" or "multi_worker".

    Args:
        embedder: what to train.
        settings: how.
        eager: one plain step at a time; nothing here depends on it.

    Attributes:
        model: the vectors.
    """

    def __init__(self, embedder: Embedder, settings: TrainSettings, eager: bool):
        strategy = make_strategy(settings.strategy)
        self._trained = trained = ModelInTraining(embedder, settings, strategy)
        self.model, self.step = trained.model, trained.step
        self.optimizer, self.train_step = trained.optimizer, trained.training_step()
        self.checkpoints = Checkpoints(
            settings.save_dir,
            trained.model,
            trained.state,
            settings.checkpoints_to_keep,
        )

        def read(order: int) -> Iterator:
            edges = functools.partial(
                read_edge_batches, settings.edges, trained.graph, seed=order
            )
            return iterate(strategy, edges, settings.batch_size)

        alone = strategy.num_replicas_in_sync == 1
        restorable = alone and settings.edges.data_service is None
        self._input = ResumableInput(read, settings.seed, restorable)

    def restore(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._trained.check_goes_on_from(path)
        self.checkpoints.restore(path)

    def start_afresh(self) -> None:
        self._trained.warm_start()

    def start_input(self, resumed: str | None) -> Iterator:
        return self._input.start(self._trained.done, resumed)

    def numbers(self, steps_per_second: float) -> Mapping[str, float]:
        return self._trained.speeds(steps_per_second)

    def before_save(self, step: int) -> SavedBeside:
        return SavedBeside(self._input.position, self._trained.metadata)
