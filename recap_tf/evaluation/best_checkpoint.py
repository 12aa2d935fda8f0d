"""Which of two evaluations is better, and which evaluated checkpoint is the best."""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence

from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from recap_tf.evaluation import evaluation_marks
from recap_tf.evaluation.evaluation_report import Measured, Report, from_json
from recap_tf.evaluation.slices import EVERYTHING
from recap_tf.metrics import metric_choice
from recap_tf.metrics.metric_choice import SCORE

_FORM = "SET/METRIC or SET/METRIC/TASK"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Watched:
    """A metric on a validation set, by which evaluations are compared.

    Args:
        validation_set: one of recap.ranker.validation_sets.
        metric: one of recap.evaluate.which_metrics.
        tasks: it is averaged over these; none for all of the set but the score.
        larger_is_better: none for what is known of the metric.
    """

    validation_set: str
    metric: str
    tasks: Sequence[str] | None = None
    larger_is_better: bool | None = None

    def check(self, setting: str) -> None:
        """Raises ValueError unless there is such a metric and it has a better end."""
        choice = metric_choice.find(self.metric, setting)
        if choice.better is None and self.larger_is_better is None:
            raise ValueError(
                f"{setting}: of two values of {self.metric!r} neither is better in "
                "itself. Choose another metric."
            )

    def check_reported(
        self, setting: str, reported: Mapping[str, Sequence[str]], which: Sequence[str]
    ) -> None:
        """Raises ValueError unless evaluations will have the watched number.

        Args:
            setting: where the user wrote it.
            reported: set -> tasks.
            which: the metrics that are measured.
        """
        tasks = reported.get(self.validation_set)
        if tasks is None:
            raise ValueError(
                f"{setting}: the validation set must be one of {sorted(reported)}. "
                f"Received: {self.validation_set!r}"
            )
        if self.metric not in which:
            raise ValueError(
                f"{setting}: the metric must be one of recap.evaluate.which_metrics, "
                f"{list(which)}. Received: {self.metric!r}"
            )
        for task in self.tasks or ():
            if task not in tasks:
                raise ValueError(
                    f"{setting}: validation set {self.validation_set!r} does not "
                    f"report {task!r}."
                )
            if task == SCORE and metric_choice.find(self.metric, "").on_score is None:
                raise ValueError(
                    f"{setting}: {self.metric!r} says nothing about the score."
                )

    def value(self, report: Report) -> float:
        """The watched number; NaN where a task has none."""
        measured = self.measured(report)
        return sum(of_task.value for of_task in measured.values()) / len(measured)

    def measured(self, report: Report) -> dict[str, Measured]:
        """Task -> what it was averaged from.

        Raises:
            KeyError: the set, a task or the metric is not in the report.
        """
        tasks = report[self.validation_set][EVERYTHING]
        of = self.tasks or [task for task in tasks if task != SCORE]
        return {task: tasks[task][self.metric] for task in of}

    def is_better(self, value: float, than: float) -> bool:
        """Whether `value` is better than, not as good as, another."""
        larger = self.larger_is_better
        if larger is None:
            larger = metric_choice.find(self.metric, "").better == "larger"
        return value > than if larger else value < than


def parse_watched(text: str, setting: str = "--best") -> Watched:
    """Parses "SET/METRIC" or "SET/METRIC/TASK".

    Raises:
        UserError: it is in another form, or there is no such metric.
    """
    parts = text.split("/", 2)
    if len(parts) < 2 or not all(parts):
        raise UserError(f"{setting} must be {_FORM}. Received: {text!r}")
    watched = Watched(validation_set=parts[0], metric=parts[1], tasks=parts[2:] or None)
    watched.check(setting)
    return watched


class NothingToCompare(UserError):
    """Checkpoints were evaluated on the set, but none has the watched number."""


def best_evaluated(save_dir: str, watched: Watched) -> tuple[str, float]:
    """Finds the best of the evaluated checkpoints below `save_dir`, and its value.

    Of equally good ones the earliest. Evaluations without the metric are passed over:
    recap.evaluate.which_metrics may have changed since.

    Raises:
        UserError: none was evaluated on the set.
        NothingToCompare: the metric was not measured, or has no value.
    """
    paths = checkpoints.list_checkpoints(save_dir)
    if not paths:
        raise UserError(f"There is no complete checkpoint below {save_dir}.")
    name = watched.validation_set
    marks = {path: evaluation_marks.read_marks(path) for path in paths}
    evaluated = {path: of[name] for path, of in marks.items() if name in of}
    if not evaluated:
        others = sorted({other for of in marks.values() for other in of})
        have = f"; there are evaluations on {', '.join(others)}" if others else ""
        raise UserError(
            f"--best: none of the {len(paths)} checkpoints below {save_dir} has been "
            f"evaluated on {name!r}{have}. python -m recap_tf.evaluate --follow does."
        )
    best: tuple[str, float] | None = None
    lacking: dict[str, str] = {}
    for path, mark in evaluated.items():
        try:
            value = watched.value(from_json(mark))
        except KeyError as error:
            lacking[path] = error.args[0]
            continue
        if not math.isnan(value) and (
            best is None or watched.is_better(value, best[1])
        ):
            best = (path, value)
    if best is None and len(lacking) == len(evaluated):
        path, what = lacking.popitem()
        raise NothingToCompare(
            f"--best: the evaluation of {path} on {name!r} does not report {what!r}."
        )
    if best is None:
        raise NothingToCompare(
            f"--best: {watched.metric} has no value on {name!r} in any checkpoint: a "
            "task there has no positives or no negatives. Name one that has."
        )
    return best


class BestKeeper:
    """Keeps the best evaluated checkpoint of a run that deletes its old ones.

    Args:
        setting: where the user wrote what "best" means.
        text: "SET/METRIC" or "SET/METRIC/TASK"; see `parse_watched`.
        save_dir: the run's folder.
        tell: prints a line to the user.
    """

    def __init__(
        self, setting: str, text: str, save_dir: str, tell: Callable[[str], None]
    ):
        self._setting, self._text, self._save_dir = setting, text, save_dir
        self._watched = parse_watched(text, setting)
        self._tell = tell
        self._told = False

    def check_reported(
        self, reported: Mapping[str, Sequence[str]], which: Sequence[str]
    ) -> None:
        """See `Watched.check_reported`."""
        self._watched.check_reported(self._setting, reported, which)

    def look_at(self, report: Report) -> None:
        """Tells, once, that by this evaluation no checkpoint can be the best."""
        if math.isnan(self._watched.value(report)):
            self._tell_no_value()

    def spared(self) -> set[str]:
        """The folder of the best checkpoint; empty while none can be told."""
        try:
            return {best_evaluated(self._save_dir, self._watched)[0]}
        except NothingToCompare:
            self._tell_no_value()
        except UserError:
            pass  # None is evaluated yet.
        return set()

    def _tell_no_value(self) -> None:
        if not self._told:
            self._told = True
            self._tell(
                f"{self._setting}: {self._text} has no value on validation set "
                f"{self._watched.validation_set!r}: a task there has no positives or "
                "no negatives; name a task that has."
            )
