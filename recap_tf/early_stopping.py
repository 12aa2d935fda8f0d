"""Ends training when a metric on a validation set stops getting better."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import gin

from recap_tf.core.command import UserError
from recap_tf.evaluation import METRICS, Report


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When to end training before its last step.

    The checkpoint of the best evaluation is kept, and is what is exported.

    Args:
        validation_set: the set's name.
        metric: a column of the evaluation table.
        tasks: the metric is averaged over these; none for all of the set.
        patience: evaluations without a new best before training ends.
        larger_is_better: of the metric.
    """

    validation_set: str
    metric: str = "auroc"
    tasks: Sequence[str] | None = None
    patience: int = 3
    larger_is_better: bool = True

    def __post_init__(self):
        if self.patience < 1:
            raise ValueError(
                f"EarlyStopping.patience must be at least 1. Received: {self.patience}"
            )
        if self.metric not in METRICS:
            raise ValueError(
                f"EarlyStopping.metric must be one of {list(METRICS)}. "
                f"Received: {self.metric!r}"
            )

    def check(self, reported: dict[str, Sequence[str]]) -> None:
        """Raises ValueError unless `reported`, set -> tasks, has what is watched."""
        if self.validation_set not in reported:
            raise ValueError(
                f"EarlyStopping.validation_set must be one of {sorted(reported)}. "
                f"Received: {self.validation_set!r}"
            )
        for task in self.tasks or ():
            if task not in reported[self.validation_set]:
                raise ValueError(
                    f"EarlyStopping.tasks names {task!r}, which validation set "
                    f"{self.validation_set!r} does not report."
                )

    def value(self, report: Report) -> float:
        """The watched number.

        Raises:
            UserError: it has no value, for want of positives or negatives.
        """
        tasks = report[self.validation_set]
        values = [tasks[task][self.metric] for task in self.tasks or tasks]
        mean = sum(values) / len(values)
        if math.isnan(mean):
            raise UserError(
                f"EarlyStopping: {self.metric} has no value on "
                f"{self.validation_set!r}: a task there has no positives or no "
                "negatives. Name the others in EarlyStopping.tasks."
            )
        return mean


@dataclasses.dataclass
class Best:
    """The best evaluation so far; stored in checkpoints.

    Args:
        step: of the evaluation.
        value: of the watched metric.
        evaluations_since: evaluations after it.
    """

    step: int
    value: float
    evaluations_since: int = 0


def judge(
    rule: EarlyStopping, best: Best | None, step: int, report: Report
) -> tuple[Best, bool]:
    """The best evaluation including this one, and whether training ends."""
    value = rule.value(report)
    sign = 1 if rule.larger_is_better else -1
    if best is None or sign * value > sign * best.value:
        return Best(step, value), False
    best = dataclasses.replace(best, evaluations_since=best.evaluations_since + 1)
    return best, best.evaluations_since >= rule.patience


def best_from(stored: dict[str, Any] | None) -> Best | None:
    """What `dataclasses.asdict` made of a `Best`."""
    return None if stored is None else Best(**stored)
