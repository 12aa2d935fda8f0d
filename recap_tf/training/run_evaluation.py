"""Evaluations within a run: the best checkpoint, an early end, or another's work.

With recap.train.wait_for_evaluator, `recap_tf.evaluate --follow` evaluates instead, and
the run ends when the last checkpoint bears its marks.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

from recap_tf.core.command import say
from recap_tf.core.training import checkpoints
from recap_tf.core.training.run import Run, RunOutcome
from recap_tf.core.training.stopping import Stop
from recap_tf.evaluation import early_stopping, evaluation_log, evaluation_marks
from recap_tf.evaluation.best_checkpoint import BestKeeper
from recap_tf.evaluation.early_stopping import Best
from recap_tf.evaluation.evaluation_report import Report, format_table
from recap_tf.evaluation.evaluator import Evaluator
from recap_tf.evaluation.traced_specs import TracedSpecs
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.metrics.metric_choice import SCORE
from recap_tf.model.ranking_model import RankingModel
from recap_tf.settings import Ranker, TrainSettings


def reported_tasks(ranker: Ranker) -> dict[str, list[str]]:
    """Validation set -> the tasks, and the score, that its evaluation reports."""
    everything = [*ranker.tasks, *([SCORE] if ranker.score_weights else [])]
    return {s.name: list(s.tasks or everything) for s in ranker.validation_sets}


class RunEvaluation:
    """What a run's evaluations are, and what follows from them.

    Args:
        ranker: whose validation sets are evaluated.
        settings: when, and what follows.
        evaluate: how the sets are read, and what is measured.

    Raises:
        ValueError: what decides over the best checkpoint or an early end will not be
            measured, or there is nothing to wait for.
    """

    def __init__(
        self, ranker: Ranker, settings: TrainSettings, evaluate: EvaluateSettings
    ):
        reported = reported_tasks(ranker)
        if settings.early_stopping is not None:
            settings.early_stopping.check(reported, evaluate.which_metrics)
        self._best_keeper: BestKeeper | None = None
        if settings.keep_best is not None:
            self._best_keeper = BestKeeper(
                "recap.train.keep_best", settings.keep_best, settings.save_dir, say
            )
            self._best_keeper.check_reported(reported, evaluate.which_metrics)
        if settings.wait_for_evaluator and not ranker.validation_sets:
            raise ValueError(
                "recap.train.wait_for_evaluator: there is nothing to evaluate, "
                "recap.ranker.validation_sets is empty."
            )
        self._sets, self._settings = ranker.validation_sets, settings
        self._evaluate_settings = evaluate
        self._set_names = [named.name for named in ranker.validation_sets]
        self._evaluator: Evaluator | None = None
        self._best: Best | None = None
        self._report: tuple[int, Report] | None = None

    def of(self, model: RankingModel, traced: TracedSpecs) -> None:
        """Says which model is evaluated; unless that is left to another process.

        Args:
            model: in training.
            traced: what the run knows of its data sets' features already.
        """
        if not self._settings.wait_for_evaluator:
            self._evaluator = Evaluator(
                model, self._sets, self._evaluate_settings, traced
            )

    def evaluate(self, run: Run, step: int) -> Report | None:
        """Evaluates, once per step; the report goes into the logs and the history.

        Returns:
            None where another process evaluates.
        """
        if self._evaluator is None:
            return None
        if self._report is not None and self._report[0] == step:
            return self._report[1]
        report = self._evaluator.evaluate()
        for name, of_set in report.items():
            evaluation_log.write_curves(run.logs, step, name, of_set)
        evaluation_log.write_history(self._settings.save_dir, step, report)
        if self._best_keeper is not None:
            self._best_keeper.look_at(report)
        self._report = (step, report)
        return report

    def judge(self, run: Run, step: int) -> bool:
        """Evaluates, keeps the best checkpoint; True if training is to end here."""
        report = self.evaluate(run, step)
        say(f"\nStep {step}\n{format_table(report)}")
        rule = self._settings.early_stopping
        if rule is None:
            return False
        self._best, end = early_stopping.judge(rule, self._best, step, report)
        if self._best.step == step:
            run.save(step, wait=True)
            checkpoints.write_best(
                self._settings.save_dir, dataclasses.asdict(self._best)
            )
        if end:
            say(
                f"Stopping at step {step}: {rule.metric} on {rule.validation_set} was "
                f"best at step {self._best.step}, {self._best.value:.5f}."
            )
        return end

    def restore(self, metadata: Mapping[str, Any]) -> None:
        """Takes up the best evaluation so far.

        Args:
            metadata: checkpoint.json of the checkpoint that the run goes on from.
        """
        self._best = early_stopping.best_from(metadata["best"])
        if self._best is not None:
            checkpoints.write_best(self._settings.save_dir, metadata["best"])

    def metadata(self) -> dict[str, Any]:
        """What the next run has to know of this one's evaluations and its end."""
        return {
            "best": self._best and dataclasses.asdict(self._best),
            "finished": False,
            "final": False,
        }

    def marks(self, step: int) -> Mapping[str, str]:
        """File name -> text, for the checkpoint of `step`, if that was evaluated."""
        if self._report is None or self._report[0] != step:
            return {}
        return evaluation_log.marks_as_texts(*self._report)

    def spared(self, old: list[str]) -> set[str]:
        """Which of the old checkpoints, by their folders, are still needed."""
        spared = {path for path in old if self._awaits_evaluation(path)}
        return spared | (self._best_keeper.spared() if self._best_keeper else set())

    def finish(
        self, outcome: RunOutcome, model: RankingModel, stop: Stop
    ) -> RunOutcome:
        """Ends a run whose last checkpoint is complete, with the chosen one's report.

        Args:
            outcome: with the last checkpoint.
            model: gets the weights of the chosen one.
            stop: ends the waiting for an evaluator.
        """
        ended_early = outcome.step < self._settings.steps
        # Ended early: starting again does nothing, although steps are left.
        checkpoints.mark(outcome.checkpoint, finished=ended_early, final=True)
        if self._evaluator is None:
            return self._wait_for_evaluator(outcome, stop)
        _, report = self._report
        evaluation_log.mark(outcome.checkpoint, outcome.step, report)
        chosen = checkpoints.choose_checkpoint(self._settings.save_dir)
        if chosen != outcome.checkpoint:
            checkpoints.restore_model(chosen, model)
            report = self._evaluator.evaluate()
        return dataclasses.replace(outcome, checkpoint=chosen, report=report)

    def find_finished(self, outcome: RunOutcome, stop: Stop) -> RunOutcome:
        """Ends a run that finds all steps done; see `RunParts.find_finished`."""
        # Killed before it could say so, it would let an evaluator wait.
        checkpoints.mark(outcome.checkpoint, final=True)
        if self._awaits_evaluation(outcome.checkpoint):
            return self._wait_for_evaluator(outcome, stop)
        chosen = checkpoints.choose_checkpoint(self._settings.save_dir)
        return dataclasses.replace(outcome, checkpoint=chosen)

    def _awaits_evaluation(self, path: str) -> bool:
        """Whether an evaluator is still to see the checkpoint in folder `path`."""
        waits = self._settings.wait_for_evaluator
        return waits and bool(evaluation_marks.unmarked(path, self._set_names))

    def _wait_for_evaluator(self, outcome: RunOutcome, stop: Stop) -> RunOutcome:
        """The outcome once the evaluator has seen its checkpoint."""
        last = outcome.checkpoint
        say(f"Waiting for recap_tf.evaluate --follow to evaluate {last}.")
        evaluated = evaluation_marks.wait_until_marked(
            self._settings.save_dir,
            last,
            self._set_names,
            self._evaluate_settings.timeout_seconds,
            stopped=lambda: bool(stop),
        )
        if not evaluated:
            return dataclasses.replace(outcome, interrupted=True)
        report = evaluation_log.read_report(last, self._set_names)
        return dataclasses.replace(outcome, report=report)
