"""Trains graph embeddings, where the settings say that their tables are."""

from recap_tf.core.training.run import Run, RunOutcome
from recap_tf.core.training.stopping import Stop
from recap_tf.core.training.strategy import PARAMETER_SERVER
from twhin_tf.graph.graph import read_graph
from twhin_tf.model.graph_embeddings import GraphEmbeddings
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.cluster_training import ClusterTraining
from twhin_tf.training.memory_training import MemoryTraining
from twhin_tf.training.partitioned_training import PartitionedTraining
from twhin_tf.training.tpu_training import TpuTraining
from twhin_tf.training.trained import load_model


class GraphTrainer:
    """One run of training, from the newest checkpoint of its save_dir on.

    Args:
        embedder: what to train.
        settings: how long, at which pace, and where.
        config: the settings in force as text, saved beside every checkpoint.
        eager: one plain step at a time, for debugging.

    Attributes:
        model: the vectors that this process has, after `run` as it left them.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: TrainSettings,
        config: str,
        eager: bool = False,
    ):
        self._embedder = embedder
        self._kind = _kind(settings)
        parts = self._kind(embedder, settings, eager)
        self.model = parts.model
        self._run = Run(parts, settings, config, eager)

    def run(self, stop: Stop) -> RunOutcome:
        """Trains until the last step or a signal.

        Raises:
            UserError: the newest checkpoint is of another graph or model, or a
                parameter server was lost.
        """
        return self._run.train(stop)

    def trained_model(self, outcome: RunOutcome) -> GraphEmbeddings:
        """The whole model, after `run` with that outcome."""
        if self._kind in (PartitionedTraining, TpuTraining):
            graph = read_graph(self._embedder.graph)
            return load_model(outcome.checkpoint, self._embedder, graph)
        return self.model


def _kind(settings: TrainSettings):
    if settings.partitions is not None:
        return PartitionedTraining
    if settings.strategy == PARAMETER_SERVER:
        return ClusterTraining
    return TpuTraining if settings.strategy == "tpu" else MemoryTraining
