"""Trains graph embeddings whose tables are cut over parameter servers.

This is the chief's part: it holds no table and trains no batch. Workers take batches,
fetch the rows that they need from the servers, and send the rows' gradients back, where
optimizers update them. Training is asynchronous, see `core.training.worker_steps`: two
runs do not give the same bits.

Each epoch's edges are shared out to the workers, so that together they read every edge
once per epoch, if one may be ahead of another. A worker that is lost leaves its share
unread; one that is back begins an epoch of all edges.
"""

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core.command import UserError, say
from recap_tf.core.training import checkpoints
from recap_tf.core.training.cluster import WORKER, is_lost_server, read_task
from recap_tf.core.training.run import RunParts, SavedBeside
from recap_tf.core.training.shard import Shard
from recap_tf.core.training.strategy import PARAMETER_SERVER, make_strategy
from recap_tf.core.training.worker_steps import WorkerSteps
from twhin_tf.graph.edge_batches import edges_per_epoch, read_edge_batches
from twhin_tf.graph.graph import Graph
from twhin_tf.model.all_nodes import AllNodes
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.model_in_training import ModelInTraining


class ClusterTraining(RunParts):
    """Training with `twhin.train.strategy = "parameter_server"`.

    A batch is one worker's. Checkpoints are those of a run on one device: either goes
    on from the other's.

    Args:
        embedder: what to train.
        settings: how.
        eager: refused; steps are those of other processes.

    Attributes:
        model: the vectors, on the servers.
    """

    def __init__(self, embedder: Embedder, settings: TrainSettings, eager: bool):
        _check(embedder, settings, eager)
        strategy = make_strategy(settings.strategy)
        self._settings = settings
        self._trained = trained = ModelInTraining(embedder, settings, strategy)
        self.model, self.step = trained.model, trained.step
        self.optimizer, self.train_step = trained.optimizer, trained.training_step()
        self.checkpoints = checkpoints.Checkpoints(
            settings.save_dir,
            trained.model,
            trained.state,
            settings.checkpoints_to_keep,
            background=False,
        )
        self._workers = len(read_task().cluster[WORKER])
        self.spread = WorkerSteps(strategy, self._workers)

    @contextlib.contextmanager
    def errors_explained(self) -> Iterator[None]:
        try:
            yield
        except tf.errors.OpError as error:
            if not is_lost_server(error):
                raise
            newest = checkpoints.newest_checkpoint(self._settings.save_dir)
            where = newest or "the start, there is no checkpoint yet"
            raise UserError(
                "A parameter server was lost, and what it held with it. Start all "
                f"tasks again: training goes on from {where}."
            ) from error

    def restore(self, path: str, metadata: Mapping[str, Any]) -> None:
        self._trained.check_goes_on_from(path)
        self.checkpoints.restore(path)

    def start_input(self, resumed: str | None) -> Iterator:
        read = worker_batches(
            self._settings, self._trained.graph, self._workers, self._trained.done
        )
        say(f"{self._workers} workers train.")
        return self.spread.iterator(read)

    def numbers(self, steps_per_second: float) -> Mapping[str, float]:
        return self._trained.speeds(steps_per_second)

    def before_save(self, step: int) -> SavedBeside:
        # A worker that died may have counted steps that others did again.
        self.step.assign(step)
        return SavedBeside(metadata=self._trained.metadata)

    def after_save(self) -> None:
        self.checkpoints.wait()


def worker_batches(
    settings: TrainSettings, graph: Graph, workers: int, step: int
) -> Callable[[tf.Tensor], tf.data.Dataset]:
    """What makes a worker's batches, of the number of pipelines asked for before.

    Args:
        settings: of the run.
        graph: whose edges are shared out.
        workers: how many there are.
        step: after which training goes on.

    Raises:
        UserError: there are fewer edges than workers.
    """
    edges = edges_per_epoch(settings.edges, graph)
    if edges < workers:
        raise UserError(f"{edges} edges cannot be shared out to {workers} workers.")
    # Another order than before, lest the first edges come again.
    seed = settings.seed + step

    def read(number: tf.Tensor) -> tf.data.Dataset:
        first = number < workers
        return read_edge_batches(
            settings.edges,
            graph,
            settings.batch_size,
            seed=seed,
            shard=Shard(
                tf.where(first, number, 0),
                tf.where(first, tf.constant(workers, tf.int64), 1),
            ),
        )

    return read


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
