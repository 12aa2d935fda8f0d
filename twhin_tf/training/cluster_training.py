"""Trains graph embeddings whose tables are cut over parameter servers.

This is the chief's part: it holds no table and trains no batch. Workers take batches,
fetch the rows that they need from the servers, and send the rows' gradients back, where
optimizers update them. Training is asynchronous, see `core.worker_steps`: two runs do
not give the same bits.

Each epoch's edges are shared out to the workers, so that together they read every edge
once per epoch, if one may be ahead of another. A worker that is lost leaves its share
unread; one that is back begins an epoch of all edges.
"""

from collections.abc import Iterator

import tensorflow as tf

from recap_tf.core.command import UserError, say
from recap_tf.core.training import checkpoints
from recap_tf.core.training.cluster import WORKER, is_lost_server, read_task
from recap_tf.core.training.shard import Shard
from recap_tf.core.training.stopping import Stop
from recap_tf.core.training.strategy import PARAMETER_SERVER
from recap_tf.core.training.worker_steps import WorkerSteps
from twhin_tf.graph.edge_batches import edges_per_epoch, read_edge_batches
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.trainer import Outcome, Trainer


class ClusterTrainer(Trainer):
    """A run of training with `twhin.train.strategy = "parameter_server"`.

    A batch is one worker's. Checkpoints are those of a run on one device: either goes
    on from the other's.

    Args:
        embedder: what to train.
        settings: how.
        config: the settings in force as text, saved beside every checkpoint.
        eager: not to be had.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: TrainSettings,
        config: str,
        eager: bool = False,
    ):
        _check(embedder, settings, eager)
        super().__init__(embedder, settings, config)
        self._workers = len(read_task().cluster[WORKER])
        self._steps = WorkerSteps(self._strategy, self._workers)

    def run(self, stop: Stop) -> Outcome:
        """Trains until the last step or a signal.

        Raises:
            UserError: a parameter server was lost.
        """
        try:
            return super().run(stop)
        except tf.errors.OpError as error:
            if not is_lost_server(error):
                raise
            found = checkpoints.list_checkpoints(self._settings.save_dir)
            where = found[-1] if found else "the start, there is no checkpoint yet"
            raise UserError(
                "A parameter server was lost, and what it held with it. Start all "
                f"tasks again: training goes on from {where}."
            ) from error

    def _make_checkpoints(self):
        return checkpoints.Checkpoints(
            self._settings.save_dir,
            self.model,
            {"optimizer": self._optimizer, "step": self._step},
            self._settings.checkpoints_to_keep,
            background=False,
        )

    def _start_reading(self, resumed: str | None) -> Iterator:
        settings, workers = self._settings, self._workers
        edges = edges_per_epoch(settings.edges, self._graph)
        if edges < workers:
            raise UserError(f"{edges} edges cannot be shared out to {workers} workers.")
        say(f"{workers} workers train.")
        # Another order than before, lest the first edges come again.
        seed = settings.seed + self._done()

        def read(number: tf.Tensor):
            first = number < workers
            return read_edge_batches(
                settings.edges,
                self._graph,
                settings.batch_size,
                seed=seed,
                shard=Shard(
                    tf.where(first, number, 0),
                    tf.where(first, tf.constant(workers, tf.int64), 1),
                ),
            )

        return self._steps.iterator(read)

    def _spread(self):
        return self._steps

    def _save(self, step):
        # A worker that died may have counted steps that others did again.
        self._step.assign(step)
        super()._save(step)
        self._checkpoints.wait()


def _check(embedder: Embedder, settings: TrainSettings, eager: bool) -> None:
    """Refuses what does not go along with parameter servers.

    Raises:
        UserError: a setting is one of those.
    """
    along = f'with twhin.train.strategy = "{PARAMETER_SERVER}"'
    if any(isinstance(sampler, AllNodes) for sampler in embedder.negatives):
        raise UserError(
            f"twhin.embedder.negatives cannot be all nodes {along}: every worker would "
            "fetch whole tables in every step. Received: AllNodes"
        )
    if settings.deterministic:
        raise UserError(
            f"twhin.train.deterministic must be False {along}, whose workers do not "
            "wait for each other. Received: True"
        )
    if settings.compile:
        raise UserError(
            f"twhin.train.compile must be False {along}: XLA cannot reach the servers' "
            "tables. Received: True"
        )
    if settings.warm_start is not None:
        raise UserError(
            f"twhin.train.warm_start must be None {along}: it takes old and new tables "
            "whole. A run that was begun on one device can go on with servers. "
            f"Received: {settings.warm_start}"
        )
    if settings.edges.data_service is not None:
        raise UserError(
            f"Edges.data_service must be None {along}: each worker would get all "
            f"edges. Received: {settings.edges.data_service!r}"
        )
    if eager:
        raise UserError(f"--debug runs steps in this process; it cannot {along}.")
