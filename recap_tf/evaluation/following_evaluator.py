"""An evaluator that follows a running training, checkpoint by checkpoint."""

import time
from collections.abc import Callable, Sequence

import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from recap_tf.core.training.logs import Logs
from recap_tf.evaluation import evaluation_log, evaluation_marks
from recap_tf.evaluation.evaluation_marks import CheckpointGone
from recap_tf.evaluation.evaluation_report import Report
from recap_tf.evaluation.evaluator import Evaluator
from recap_tf.evaluation.validation_sets import ValidationSet

Restore = Callable[[str], None]
"""Gives the evaluated model the weights of the checkpoint in a folder."""


class FollowingEvaluator:
    """Evaluates every checkpoint of a run on every set, once, the oldest first.

    What is done is marked in the checkpoint, set by set; one that is killed and
    started again, on another machine if need be, goes on with the next set. The trainer
    may delete checkpoints meanwhile: those are left out.

    Args:
        save_dir: the run's folder; the run may begin later.
        restore: see `Restore`.
        evaluator: of the model that `restore` gives the weights to.
        sets: what to evaluate on, in this order.
        timeout_seconds: the longest time to wait for the next checkpoint.
        tell: prints a line to the user.
        show: is told the step and the whole report of every checkpoint.
    """

    def __init__(
        self,
        save_dir: str,
        restore: Restore,
        evaluator: Evaluator,
        sets: Sequence[ValidationSet],
        timeout_seconds: float,
        tell: Callable[[str], None],
        show: Callable[[int, Report], None],
    ):
        self._save_dir = save_dir
        self._restore = restore
        self._evaluator = evaluator
        self._sets = list(sets)
        self._names = [named.name for named in sets]
        self._timeout_seconds = timeout_seconds
        self._tell, self._show = tell, show
        self._logs = Logs(save_dir)

    def run(self) -> None:
        """Evaluates until the last checkpoint of the run is done.

        Raises:
            UserError: none appeared for `timeout_seconds`.
        """
        since = time.monotonic()
        while True:
            paths = checkpoints.list_checkpoints(self._save_dir)
            left = [p for p in paths if evaluation_marks.unmarked(p, self._names)]
            if left:
                self._evaluate(left[0])
                since = time.monotonic()
            elif paths and _is_final(paths[-1]):
                return
            elif time.monotonic() - since > self._timeout_seconds:
                raise UserError(self._timed_out(paths))
            else:
                evaluation_marks.pause(self._timeout_seconds)

    def _evaluate(self, path: str) -> None:
        step = checkpoints.step_of(path)
        try:
            self._restored(path)
            before = evaluation_log.read_report(path, self._names)
            report = {}
            for named in self._sets:
                name = named.name
                if name in before:
                    report[name] = before[name]
                    continue
                report[name] = self._evaluator.evaluate_set(named)
                evaluation_log.write_curves(self._logs, step, name, report[name])
                self._logs.flush()
                evaluation_log.mark(path, step, {name: report[name]})
        except CheckpointGone:
            self._tell(f"Step {step}: the trainer has deleted this checkpoint.")
            return
        evaluation_log.write_history(self._save_dir, step, report)
        self._show(step, report)

    def _restored(self, path: str) -> None:
        try:
            self._restore(path)
        except (tf.errors.OpError, OSError) as error:
            if not checkpoints.is_complete(path):
                raise CheckpointGone(path) from error
            raise

    def _timed_out(self, paths: Sequence[str]) -> str:
        newest = f"after {paths[-1]}, which is evaluated" if paths else "at all"
        return (
            f"No checkpoint appeared below {self._save_dir} for "
            f"{self._timeout_seconds:g} s (recap.evaluate.timeout_seconds), {newest}. "
            "Is the training still running?"
        )


def _is_final(path: str) -> bool:
    """Whether its training says that no checkpoint comes after the one in `path`."""
    try:
        return checkpoints.read_metadata(path).get("final", False)
    except tf.errors.NotFoundError:
        return False
