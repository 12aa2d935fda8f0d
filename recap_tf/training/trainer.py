"""Trains a ranker: builds it, feeds it, saves it, and says how it does."""

import dataclasses
import time
from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

from recap_tf.core import files
from recap_tf.core.command import say
from recap_tf.core.training import checkpoints, loop
from recap_tf.core.training.logs import Logs
from recap_tf.core.training.stopping import Stop
from recap_tf.core.training.strategy import make_strategy, per_replica_batch_size
from recap_tf.data import record_batches
from recap_tf.evaluation import early_stopping, evaluation_log, evaluation_marks
from recap_tf.evaluation.best_checkpoint import BestKeeper
from recap_tf.evaluation.early_stopping import Best
from recap_tf.evaluation.evaluation_report import Report, format_table
from recap_tf.evaluation.evaluator import Evaluator
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.metrics.metric_choice import SCORE
from recap_tf.settings import Ranker, TrainSettings
from recap_tf.training.building import build_model, check_accumulation
from recap_tf.training.training_batches import TrainingInput
from recap_tf.training.training_step import TrainingStep


def reported_tasks(ranker: Ranker) -> dict[str, list[str]]:
    """Validation set -> the tasks, and the score, that its evaluation reports."""
    everything = [*ranker.tasks, *([SCORE] if ranker.score_weights else [])]
    return {s.name: list(s.tasks or everything) for s in ranker.validation_sets}


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a run of training ended.

    Args:
        step: updates done, over all runs with this save_dir.
        checkpoint: the one to export: the best if the run keeps one, else the last.
        report: the evaluation of that checkpoint; none unless training ended now.
        interrupted: a signal ended it before its last step.
    """

    step: int
    checkpoint: str
    report: Report | None = None
    interrupted: bool = False


class Trainer:
    """One run of training, from the newest checkpoint of its save_dir on.

    Args:
        ranker: what to train.
        settings: how.
        evaluate: how the validation sets are read.
        config: the settings in force as text, saved beside every checkpoint.
        eager: one plain step at a time, for debugging.
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
        if settings.early_stopping is not None:
            settings.early_stopping.check(
                reported_tasks(ranker), evaluate.which_metrics
            )
        self._best_keeper: BestKeeper | None = None
        if settings.keep_best is not None:
            self._best_keeper = BestKeeper(
                "recap.train.keep_best", settings.keep_best, settings.save_dir, say
            )
            self._best_keeper.check_reported(
                reported_tasks(ranker), evaluate.which_metrics
            )
        self._set_names = [named.name for named in ranker.validation_sets]
        if settings.wait_for_evaluator and not self._set_names:
            raise ValueError(
                "recap.train.wait_for_evaluator: there is nothing to evaluate, "
                "recap.ranker.validation_sets is empty."
            )
        self._ranker, self._settings, self._config = ranker, settings, config
        self._eager = eager
        self._strategy = make_strategy(settings.strategy, settings.tpu)
        per_replica_batch_size(settings.batch_size, self._strategy)
        ranker.loss.check_features(record_batches.feature_specs(ranker.train_data))
        files.check_writable("recap.train.save_dir", settings.save_dir)
        with self._strategy.scope():
            self.model = build_model(ranker)
            check_accumulation(self.model, settings)
            self._balancing = ranker.loss.balancing(self.model)
            self._optimizer = ranker.optimizer(self.model.parameter_groups())
            self._optimizer.add_groups(self._balancing.optimizers())
            if self.model.large_embeddings is not None:
                self._optimizer.add_groups(self.model.large_embeddings.optimizers())
            self._optimizer.create_slots()
            self._step = tf.Variable(0, dtype=tf.int64, name="step")
        self._train_step = TrainingStep(
            self.model,
            ranker.loss,
            self._balancing,
            self._optimizer,
            self._step,
            self._strategy,
            gradient_accumulation=settings.gradient_accumulation,
            clip_norm=settings.clip_norm,
            seed=settings.seed,
        )
        self._input = TrainingInput(
            ranker.train_data,
            ranker.tasks,
            settings.batch_size,
            settings.seed,
            self._strategy,
            self.model.large_embeddings if settings.strategy == "tpu" else None,
        )
        state = {"optimizer": self._optimizer, "step": self._step}
        if self._balancing.variables:
            state["task_balancing"] = self._balancing
        self._checkpoints = checkpoints.Checkpoints(
            settings.save_dir,
            self.model,
            state,
            settings.checkpoints_to_keep,
            self._spared,
        )
        self._evaluate_settings = evaluate
        self._evaluator = None
        if not settings.wait_for_evaluator:
            self._evaluator = Evaluator(self.model, ranker.validation_sets, evaluate)
        self._logs = Logs(settings.save_dir)
        self._best: Best | None = None
        self._report: tuple[int, Report] | None = None
        self._seconds_before = 0.0

    def run(self, stop: Stop) -> Outcome:
        """Trains until the last step, an early stop or a signal."""
        settings = self._settings
        self._checkpoints.remove_unfinished()
        found = checkpoints.list_checkpoints(settings.save_dir)
        resumed = found[-1] if found else None
        if resumed is not None:
            finished = self._restore(resumed)
            if finished or self._done() >= settings.steps:
                # Killed before it could say so, it would let an evaluator wait.
                checkpoints.mark(resumed, final=True)
                if self._awaits_evaluation(resumed):
                    return self._wait_for_evaluator(resumed, stop)
                path = checkpoints.choose_checkpoint(settings.save_dir)
                return Outcome(self._done(), path)
            checkpoints.mark(resumed, final=False)
        elif settings.initial_checkpoint_dir is not None:
            start = checkpoints.choose_checkpoint(settings.initial_checkpoint_dir)
            checkpoints.restore_model(start, self.model)
            say(f"Starting from the weights of {start}.")
        elif self.model.large_embeddings is not None:
            for name, share in self.model.large_embeddings.load_pretrained().items():
                say(f"Table {name}: {share:.1%} of its rows start from a snapshot.")
        iterator = self._input.start(
            self._done(),
            lambda one: self._checkpoints.restore_position(resumed, one),
        )
        self._started = time.monotonic()
        self._logged = (self._started, self._done())
        done = loop.run_loop(
            self._train_step,
            iterator,
            self._train_step.names,
            first=self._done(),
            last=settings.steps,
            events=self._events(),
            stop=stop,
            eager=self._eager,
        )
        if stop and done < settings.steps:
            self._save(done)
            self._checkpoints.wait()
            path = checkpoints.checkpoint_path(settings.save_dir, done)
            return Outcome(done, path, interrupted=True)
        return self._finish(done, stop)

    def _finish(self, done: int, stop: Stop) -> Outcome:
        report = None if self._evaluator is None else self._evaluate(done)
        self._save(done)
        self._checkpoints.wait()
        last = checkpoints.checkpoint_path(self._settings.save_dir, done)
        # Ended early: starting again does nothing, although steps are left.
        checkpoints.mark(last, finished=done < self._settings.steps, final=True)
        if report is None:
            self._logs.flush()
            return self._wait_for_evaluator(last, stop)
        evaluation_log.mark(last, done, report)
        chosen = checkpoints.choose_checkpoint(self._settings.save_dir)
        if chosen != last:
            checkpoints.restore_model(chosen, self.model)
            report = self._evaluator.evaluate()
        self._logs.flush()
        return Outcome(done, chosen, report)

    def _awaits_evaluation(self, path: str) -> bool:
        """Whether an evaluator is still to see the checkpoint in folder `path`."""
        waits = self._settings.wait_for_evaluator
        return waits and bool(evaluation_marks.unmarked(path, self._set_names))

    def _spared(self, old: list[str]) -> set[str]:
        """Which of the old checkpoints are still needed."""
        spared = {path for path in old if self._awaits_evaluation(path)}
        return spared | (self._best_keeper.spared() if self._best_keeper else set())

    def _wait_for_evaluator(self, last: str, stop: Stop) -> Outcome:
        """How the run ended, once the evaluator has seen the checkpoint in `last`."""
        say(f"Waiting for recap_tf.evaluate --follow to evaluate {last}.")
        done = evaluation_marks.wait_until_marked(
            self._settings.save_dir,
            last,
            self._set_names,
            self._evaluate_settings.timeout_seconds,
            stopped=lambda: bool(stop),
        )
        if not done:
            return Outcome(self._done(), last, interrupted=True)
        report = evaluation_log.read_report(last, self._set_names)
        return Outcome(self._done(), last, report)

    def _done(self) -> int:
        return int(self._step.numpy())

    def _events(self) -> list[loop.Event]:
        settings = self._settings
        events = [loop.Event(settings.log_every, self._log)]
        if settings.evaluate_every is not None:
            every = settings.evaluate_every
            events.append(loop.Event(every, lambda step, _: self._judge(step)))
        # Last, so that a checkpoint knows of the evaluation of its own step.
        every = settings.checkpoint_every
        events.append(loop.Event(every, lambda step, _: self._save(step)))
        return events

    def _log(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        before, step_before = self._logged
        self._logged = (now, step)
        steps_per_second = (step - step_before) / max(now - before, 1e-9)
        examples = self._settings.batch_size * self._settings.gradient_accumulation
        replicas = self._strategy.num_replicas_in_sync
        rates = self._optimizer.learning_rates(step - 1)
        large = self.model.large_embeddings
        norms = {} if large is None else large.norms()
        self._logs.write(
            "train",
            step,
            {
                **losses,
                **{f"learning_rate/{group}": rate for group, rate in rates.items()},
                **{
                    f"task_weight/{task}": weight
                    for task, weight in self._balancing.learned().items()
                },
                **{f"embedding_norm/{table}": norm for table, norm in norms.items()},
                "speed/steps_per_second": steps_per_second,
                "speed/examples_per_second": steps_per_second * examples,
                "speed/examples_per_second_per_replica": (
                    steps_per_second * examples / replicas
                ),
                "speed/active_seconds": self._active_seconds(),
            },
        )

    def _active_seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started

    def _evaluate(self, step: int) -> Report:
        if self._report is not None and self._report[0] == step:
            return self._report[1]
        report = self._evaluator.evaluate()
        for name, found in report.items():
            evaluation_log.write_curves(self._logs, step, name, found)
        evaluation_log.write_history(self._settings.save_dir, step, report)
        if self._best_keeper is not None:
            self._best_keeper.look_at(report)
        self._report = (step, report)
        return report

    def _judge(self, step: int) -> bool:
        """Evaluates; True if training is to end here."""
        report = self._evaluate(step)
        say(f"\nStep {step}\n{format_table(report)}")
        rule = self._settings.early_stopping
        if rule is None:
            return False
        self._best, end = early_stopping.judge(rule, self._best, step, report)
        if self._best.step == step:
            self._save(step)
            self._checkpoints.wait()
            self._checkpoints.write_best(dataclasses.asdict(self._best))
        if end:
            say(
                f"Stopping at step {step}: {rule.metric} on {rule.validation_set} was "
                f"best at step {self._best.step}, {self._best.value:.5f}."
            )
        return end

    def _save(self, step: int) -> None:
        evaluated = self._report is not None and self._report[0] == step
        marks = evaluation_log.marks_as_texts(*self._report) if evaluated else {}
        self._checkpoints.save(
            step,
            config=self._config,
            position=self._input.position,
            metadata={
                "active_seconds": self._active_seconds(),
                "best": self._best and dataclasses.asdict(self._best),
                "finished": False,
                "final": False,
            },
            texts=marks,
        )

    def _restore(self, path: str) -> bool:
        """Takes up the run where checkpoint `path` left it; True if it was finished."""
        self._checkpoints.restore(path)
        metadata = checkpoints.read_metadata(path)
        self._seconds_before = metadata["active_seconds"]
        self._best = early_stopping.best_from(metadata["best"])
        if self._best is not None:
            self._checkpoints.write_best(metadata["best"])
        say(f"Going on from {path}.")
        return metadata["finished"]
