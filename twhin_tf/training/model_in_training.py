"""A model with all that trains it: optimizers, objective, the counter of updates."""

from collections.abc import Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from recap_tf.core import files
from recap_tf.core.command import say
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.training.strategy import per_replica_batch_size
from twhin_tf.graph.graph import Graph, read_graph
from twhin_tf.model.warm_start import Drift
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.building import create_graph_embeddings, create_objective
from twhin_tf.training.old_vectors import OldVectors
from twhin_tf.training.trained import GRAPH, check_graph
from twhin_tf.training.training_step import EdgeTrainingStep


class ModelInTraining:
    """The vectors of a graph, before their first update.

    Args:
        embedder: what to train.
        settings: how; its strategy is passed over.
        strategy: that holds the variables.
        graph: whose rows the model has; None for the embedder's graph.

    Attributes:
        model: the vectors.
        groups: its optimizers, see `GraphEmbeddings.parameter_groups`.
        optimizer: all of them together.
        objective: what the model is trained for.
        step: counts the updates.
        strategy: as given.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: TrainSettings,
        strategy: tf.distribute.Strategy,
        graph: Graph | None = None,
    ):
        keras.utils.set_random_seed(settings.seed)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        per_replica_batch_size(settings.batch_size, strategy)
        files.check_writable("twhin.train.save_dir", settings.save_dir)
        self._settings, self.strategy = settings, strategy
        self._whole = read_graph(embedder.graph)
        self.graph = self._whole if graph is None else graph
        with strategy.scope():
            self.model = create_graph_embeddings(embedder, self.graph)
            self.groups = self.model.parameter_groups()
            self.optimizer = GroupedOptimizer(self.groups)
            self.optimizer.create_slots()
            self.step = tf.Variable(0, dtype=tf.int64, name="step")
        self._old, drift = None, None
        if (warm := settings.warm_start) is not None:
            self._old = OldVectors(warm, embedder, self.graph)
            if warm.drift:
                with strategy.scope():
                    drift = Drift(warm.drift, self.model.node_tables, self._old.vectors)
        self.objective = create_objective(
            embedder, self.graph, self.model, settings.edges, drift
        )

    @property
    def state(self) -> dict[str, Any]:
        """What a checkpoint holds beside the model, name -> trackable."""
        return {"optimizer": self.optimizer, "step": self.step}

    @property
    def metadata(self) -> dict[str, Any]:
        """What checkpoint.json says of the graph."""
        return {GRAPH: self._whole.fingerprint}

    @property
    def done(self) -> int:
        """Updates done."""
        return int(self.step.numpy())

    def training_step(self) -> EdgeTrainingStep:
        """One update of the model."""
        return EdgeTrainingStep(
            self.objective,
            [weight for _, weights in self.groups.values() for weight in weights],
            self.optimizer,
            self.step,
            self.strategy,
            seed=self._settings.seed,
            compiled=self._settings.compile,
        )

    def check_goes_on_from(self, path: str) -> None:
        """Raises UserError if the checkpoint in folder `path` is of another graph."""
        check_graph(path, self._whole)
        self._old = None  # They may take as much memory as the model.

    def warm_start(self) -> None:
        """Gives a new model the old vectors, if the settings say where they are."""
        old, self._old = self._old, None
        if old is not None:
            old.give(self.model, self.groups, self._settings.edges)
            for name, share in old.shares().items():
                say(f"{name}: {share:.1%} of the rows start from old vectors.")

    def speeds(self, steps_per_second: float) -> Mapping[str, float]:
        """What is logged of the speed beside steps per second."""
        return {"speed/edges_per_second": steps_per_second * self._settings.batch_size}
