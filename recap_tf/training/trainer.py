"""Trains a ranker: checks the settings, builds the model, wires up its run."""

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf
import tf_keras as keras

from recap_tf.core import files
from recap_tf.core.command import say
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.training import checkpoints
from recap_tf.core.training.input_position import ResumableInput
from recap_tf.core.training.loop import Event
from recap_tf.core.training.run import Run, RunOutcome, RunParts, SavedBeside
from recap_tf.core.training.stopping import Stop
from recap_tf.core.training.strategy import make_strategy, per_replica_batch_size
from recap_tf.data.record_batches import FeatureSpec
from recap_tf.evaluation.traced_specs import TracedSpecs
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.losses.task_balancing import TaskBalancing
from recap_tf.model.ranking_model import RankingModel
from recap_tf.settings import Ranker, TrainSettings
from recap_tf.training.building import build_model
from recap_tf.training.gradient_accumulation import check_accumulation
from recap_tf.training.run_evaluation import RunEvaluation
from recap_tf.training.training_batches import training_batches
from recap_tf.training.training_step import RankerTrainingStep


class RankerTrainer:
    """One run of training, from the newest checkpoint of its save_dir on.

    Args:
        ranker: what to train.
        settings: how long, at which pace, on which devices.
        evaluate: how the validation sets are read.
        config: the settings in force as text, saved beside every checkpoint.
        eager: one plain step at a time, for debugging.

    Attributes:
        model: the ranker; after `run`, with the weights of the outcome's checkpoint.
        train_step: one update.
    """

    def __init__(
        self,
        ranker: Ranker,
        settings: TrainSettings,
        evaluate: EvaluateSettings,
        config: str,
        eager: bool = False,
    ):
        keras.utils.set_random_seed(settings.seed)
        if settings.deterministic:
            tf.config.experimental.enable_op_determinism()
        evaluation = RunEvaluation(ranker, settings, evaluate)
        strategy = make_strategy(settings.strategy, settings.tpu)
        traced = TracedSpecs()
        specs = traced.of(ranker.train_data)
        _check(ranker, settings, strategy, specs)
        with strategy.scope():
            built = _build(ranker, settings, specs)
        evaluation.of(built.model, traced)
        parts = _wire(ranker, settings, strategy, built, evaluation)
        self.model, self.train_step = built.model, parts.train_step
        self._run = Run(parts, settings, config, eager)

    def run(self, stop: Stop) -> RunOutcome:
        """Trains until the last step, an early stop or a signal.

        Returns:
            With the chosen checkpoint, the best if the run keeps one, and its report:
            none unless training ended now.
        """
        return self._run.train(stop)


@dataclasses.dataclass(frozen=True)
class _Built:
    """All that has variables, made in the strategy's scope."""

    model: RankingModel
    balancing: TaskBalancing
    optimizer: GroupedOptimizer
    step: tf.Variable


def _check(
    ranker: Ranker,
    settings: TrainSettings,
    strategy: tf.distribute.Strategy,
    specs: Mapping[str, FeatureSpec],
) -> None:
    """Refuses what cannot be trained.

    Raises:
        ValueError, UserError: a setting is wrong; the message says which.
    """
    per_replica_batch_size(settings.batch_size, strategy)
    ranker.loss.check_features(specs)
    files.check_writable("recap.train.save_dir", settings.save_dir)


def _build(
    ranker: Ranker, settings: TrainSettings, specs: Mapping[str, FeatureSpec]
) -> _Built:
    model = build_model(ranker, specs=specs)
    check_accumulation(model, settings.gradient_accumulation)
    balancing = ranker.loss.balancing(model)
    optimizer = ranker.optimizer(model.parameter_groups())
    optimizer.add_groups(balancing.optimizers())
    if model.large_embeddings is not None:
        optimizer.add_groups(model.large_embeddings.optimizers())
    optimizer.create_slots()
    step = tf.Variable(0, dtype=tf.int64, name="step")
    return _Built(model, balancing, optimizer, step)


def _wire(
    ranker: Ranker,
    settings: TrainSettings,
    strategy: tf.distribute.Strategy,
    built: _Built,
    evaluation: RunEvaluation,
) -> "RankerParts":
    train_step = RankerTrainingStep(
        built.model,
        ranker.loss,
        built.balancing,
        built.optimizer,
        built.step,
        strategy,
        gradient_accumulation=settings.gradient_accumulation,
        clip_norm=settings.clip_norm,
        seed=settings.seed,
    )
    batches = training_batches(
        ranker.train_data,
        ranker.tasks,
        settings.batch_size,
        settings.seed,
        strategy,
        built.model.large_embeddings if settings.strategy == "tpu" else None,
    )
    state = {"optimizer": built.optimizer, "step": built.step}
    if built.balancing.variables:
        state["task_balancing"] = built.balancing
    saved = checkpoints.Checkpoints(
        settings.save_dir,
        built.model,
        state,
        settings.checkpoints_to_keep,
        evaluation.spared,
    )
    replicas = strategy.num_replicas_in_sync
    return RankerParts(
        built, train_step, batches, saved, evaluation, settings, replicas
    )


class RankerParts(RunParts):
    """What a `Run` trains: a ranker that is evaluated on the way.

    Args:
        built: model, optimizer, balancing of the tasks, counter of updates.
        train_step: one update of them.
        batches: of the training set.
        saved: the checkpoints.
        evaluation: on the validation sets.
        settings: of the run.
        replicas: that train.
    """

    def __init__(
        self,
        built: _Built,
        train_step: RankerTrainingStep,
        batches: ResumableInput,
        saved: checkpoints.Checkpoints,
        evaluation: RunEvaluation,
        settings: TrainSettings,
        replicas: int,
    ):
        self.train_step, self.checkpoints = train_step, saved
        self.optimizer, self.step = built.optimizer, built.step
        self._model, self._balancing = built.model, built.balancing
        self._batches, self._evaluation = batches, evaluation
        self._settings, self._replicas = settings, replicas

    def restore(self, path: str, metadata: Mapping[str, Any]) -> None:
        self.checkpoints.restore(path)
        self._evaluation.restore(metadata)

    def start_afresh(self) -> None:
        folder = self._settings.initial_checkpoint_dir
        large = self._model.large_embeddings
        if folder is not None:
            start = checkpoints.choose_checkpoint(folder)
            checkpoints.restore_model(start, self._model)
            say(f"Starting from the weights of {start}.")
        elif large is not None:
            for name, share in large.load_pretrained().items():
                say(f"Table {name}: {share:.1%} of its rows start from a snapshot.")

    def start_input(self, resumed: str | None) -> Iterator:
        if resumed is not None:
            # It may have been the last one of a run of fewer steps.
            checkpoints.mark(resumed, final=False)
        return self._batches.start(int(self.step.numpy()), resumed)

    def evaluation_events(self, run: Run) -> list[Event]:
        every = self._settings.evaluate_every
        if every is None:
            return []
        return [Event(every, lambda step, _: self._evaluation.judge(run, step))]

    def numbers(self, steps_per_second: float) -> dict[str, float]:
        settings = self._settings
        examples_per_second = steps_per_second * (
            settings.batch_size * settings.gradient_accumulation
        )
        large = self._model.large_embeddings
        norms = {} if large is None else large.norms()
        return {
            **{
                f"task_weight/{task}": weight
                for task, weight in self._balancing.learned().items()
            },
            **{f"embedding_norm/{table}": norm for table, norm in norms.items()},
            "speed/examples_per_second": examples_per_second,
            "speed/examples_per_second_per_replica": (
                examples_per_second / self._replicas
            ),
        }

    def before_save(self, step: int) -> SavedBeside:
        return SavedBeside(
            position=self._batches.position,
            metadata=self._evaluation.metadata(),
            texts=self._evaluation.marks(step),
        )

    def before_end(self, run: Run, step: int) -> None:
        self._evaluation.evaluate(run, step)

    def finish(self, outcome: RunOutcome, stop: Stop) -> RunOutcome:
        return self._evaluation.finish(outcome, self._model, stop)

    def find_finished(self, outcome: RunOutcome, stop: Stop) -> RunOutcome:
        return self._evaluation.find_finished(outcome, stop)
