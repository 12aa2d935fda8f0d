"""Trains graph embeddings: builds them, feeds them, saves them, and logs."""

import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf
import tf_keras as keras

from recap_tf.core import files
from recap_tf.core.command import say
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.training import checkpoints, loop
from recap_tf.core.training.logs import Logs
from recap_tf.core.training.shard import WHOLE, Shard
from recap_tf.core.training.stopping import Stop
from recap_tf.core.training.strategy import make_strategy, per_replica_batch_size
from twhin_tf.graph.edge_batches import read_edge_batches
from twhin_tf.graph.graph import Graph, read_graph
from twhin_tf.model.warm_start import Drift
from twhin_tf.settings import Embedder, TrainSettings
from twhin_tf.training.building import create_graph_embeddings, create_objective
from twhin_tf.training.old_vectors import OldVectors
from twhin_tf.training.trained import GRAPH, check_graph
from twhin_tf.training.training_step import TrainingStep


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of training ended.

    Args:
        step: updates done, over all runs with this save_dir.
        checkpoint: the last one.
        trained: updates done by this run.
        interrupted: a signal ended it before its last step.
    """

    step: int
    checkpoint: str
    trained: int
    interrupted: bool = False


class Trainer:
    """One run of training, from the newest checkpoint of its save_dir on.

    Args:
        embedder: what to train.
        settings: how.
        config: the settings in force as text, saved beside every checkpoint.
        eager: one plain step at a time, for debugging.
        graph: what to train on; None reads the embedder's.

    Attributes:
        model: the vectors, after `run` as it left them.
    """

    def __init__(
        self,
        embedder: Embedder,
        settings: TrainSettings,
        config: str,
        eager: bool = False,
        graph: Graph | None = None,
    ):
        keras.utils.set_random_seed(settings.seed)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        self._settings, self._config, self._eager = settings, config, eager
        # `graph` may have fewer rows: those in memory.
        self._whole = read_graph(embedder.graph)
        self._graph = self._whole if graph is None else graph
        self._strategy = make_strategy(settings.strategy)
        per_replica_batch_size(settings.batch_size, self._strategy)
        files.check_writable("twhin.train.save_dir", settings.save_dir)
        with self._strategy.scope():
            self.model = create_graph_embeddings(embedder, self._graph)
            self._groups = groups = self.model.parameter_groups()
            self._optimizer = GroupedOptimizer(groups)
            self._optimizer.create_slots()
            self._step = tf.Variable(0, dtype=tf.int64, name="step")
        self._old, drift = None, None
        if (warm := settings.warm_start) is not None:
            self._old = OldVectors(warm, embedder, self._graph)
            if warm.drift:
                with self._strategy.scope():
                    drift = Drift(warm.drift, self.model.node_tables, self._old.vectors)
        self._objective = create_objective(
            embedder, self._graph, self.model, settings.edges, drift
        )
        self._train_step = TrainingStep(
            self._objective,
            [weight for _, weights in groups.values() for weight in weights],
            self._optimizer,
            self._step,
            self._strategy,
            seed=settings.seed,
            compiled=settings.compile,
        )
        self._checkpoints = self._make_checkpoints()
        self._position: Iterator | None = None
        self._logs = Logs(settings.save_dir)
        self._seconds_before = 0.0

    def run(self, stop: Stop) -> Outcome:
        """Trains until the last step or a signal."""
        settings = self._settings
        self._checkpoints.remove_unfinished()
        found = checkpoints.list_checkpoints(settings.save_dir)
        resumed = found[-1] if found else None
        if resumed is not None:
            check_graph(resumed, self._whole)
            self._restore(resumed)
            metadata = checkpoints.read_metadata(resumed)
            self._seconds_before = metadata["active_seconds"]
            say(f"Going on from {resumed}.")
        elif self._old is not None:
            self._old.give(self.model, self._groups, settings.edges)
            for name, share in self._old.shares().items():
                say(f"{name}: {share:.1%} of the rows start from old vectors.")
        self._old = None
        first = self._done()
        if resumed is not None and first >= settings.steps:
            return Outcome(first, resumed, 0)
        iterator = self._start_reading(resumed)
        self._started = time.monotonic()
        self._logged = (self._started, first)
        done = loop.run_loop(
            self._train_step,
            iterator,
            self._train_step.names,
            first=first,
            last=settings.steps,
            events=[
                *self._input_events(),
                loop.Event(settings.log_every, self._log),
                loop.Event(settings.checkpoint_every, lambda s, _: self._save(s)),
            ],
            stop=stop,
            eager=self._eager,
            spread=self._spread(),
        )
        self._save(done)
        self._checkpoints.wait()
        self._logs.flush()
        path = checkpoints.checkpoint_path(settings.save_dir, done)
        return Outcome(done, path, done - first, bool(stop) and done < settings.steps)

    def _make_checkpoints(self) -> checkpoints.Checkpoints:
        return checkpoints.Checkpoints(
            self._settings.save_dir,
            self.model,
            {"optimizer": self._optimizer, "step": self._step},
            self._settings.checkpoints_to_keep,
        )

    def _restore(self, path: str) -> None:
        self._checkpoints.restore(path)

    def _spread(self):
        """What runs steps elsewhere, see `loop.run_loop`."""
        return None

    def _input_events(self) -> Sequence[loop.Event]:
        """What the input has to do between steps."""
        return ()

    def _start_reading(self, resumed: str | None) -> Iterator:
        settings, replicas = self._settings, self._strategy.num_replicas_in_sync
        if replicas == 1 and settings.edges.data_service is None:
            iterator = self._iterator(settings.seed)
            if resumed is None or self._checkpoints.restore_position(resumed, iterator):
                self._position = iterator
                return iterator
        # Where the position is not saved, a resumed run shuffles anew, lest it see the
        # first edges again in the same order.
        return self._iterator(settings.seed + self._done())

    def _iterator(self, seed: int) -> Iterator:
        settings = self._settings

        def read(batch_size, shard=WHOLE):
            return read_edge_batches(
                settings.edges, self._graph, batch_size, seed=seed, shard=shard
            )

        if self._strategy.num_replicas_in_sync == 1:
            return iter(read(settings.batch_size))
        return iter(
            self._strategy.distribute_datasets_from_function(
                lambda context: read(
                    context.get_per_replica_batch_size(settings.batch_size),
                    Shard(context.input_pipeline_id, context.num_input_pipelines),
                )
            )
        )

    def _done(self) -> int:
        return int(self._step.numpy())

    def _log(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        before, step_before = self._logged
        self._logged = (now, step)
        steps_per_second = (step - step_before) / max(now - before, 1e-9)
        rates = self._optimizer.learning_rates(step - 1)
        self._logs.write(
            "train",
            step,
            {
                **losses,
                **{f"learning_rate/{group}": rate for group, rate in rates.items()},
                **self._input_numbers(),
                "speed/steps_per_second": steps_per_second,
                "speed/edges_per_second": steps_per_second * self._settings.batch_size,
                "speed/active_seconds": self._active_seconds(),
            },
        )

    def _input_numbers(self) -> Mapping[str, float]:
        """What the input adds to the log."""
        return {}

    def _active_seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _save(self, step: int, texts: Mapping[str, str] = {}) -> None:
        self._checkpoints.save(
            step,
            config=self._config,
            position=self._position,
            metadata={
                "active_seconds": self._active_seconds(),
                GRAPH: self._whole.fingerprint,
            },
            texts=texts,
        )
