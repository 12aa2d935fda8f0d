"""Ends training when a metric on a validation set stops getting better."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import gin

from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from recap_tf.evaluation.best_checkpoint import Watched
from recap_tf.evaluation.evaluation_report import Report


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class EarlyStopping:
    """When to end training before its last step.

    The checkpoint of the best evaluation is kept, and is what is exported.

    Args:
        validation_set: one of recap.ranker.validation_sets.
        metric: one of recap.evaluate.which_metrics.
        tasks: the metric is averaged over these; none for all of the set.
        patience: evaluations without a new best before training ends; at least 1.
        larger_is_better: of two values of the metric; none for what is known of it.
    """

    validation_set: str
    metric: str = "auroc"
    tasks: Sequence[str] | None = None
    patience: int = 3
    larger_is_better: bool | None = None

    def __post_init__(self):
        check_range("EarlyStopping.patience", self.patience, at_least=1)
        self.watched.check("EarlyStopping.metric")

    @property
    def watched(self) -> Watched:
        """The metric by which evaluations are compared."""
        return Watched(
            validation_set=self.validation_set,
            metric=self.metric,
            tasks=self.tasks,
            larger_is_better=self.larger_is_better,
        )

    def check(self, reported: dict[str, Sequence[str]], metrics: Sequence[str]) -> None:
        """Raises ValueError unless what is watched will be measured.

        Args:
            reported: set -> tasks.
            metrics: what is measured of them.
        """
        self.watched.check_reported("EarlyStopping", reported, metrics)

    def value(self, report: Report) -> float:
        """The watched number.

        Raises:
            UserError: it has no value, for want of positives or negatives.
        """
        value = self.watched.value(report)
        if math.isnan(value):
            raise UserError(
                f"EarlyStopping: {self.metric} has no value on "
                f"{self.validation_set!r}: a task there has no positives or no "
                "negatives. Name the others in EarlyStopping.tasks."
            )
        return value


@dataclasses.dataclass
class Best:
    """The best evaluation so far; stored in checkpoints.

    Args:
        step: how many updates the model had.
        value: the watched number.
        evaluations_since: how many evaluations after it were not better.
    """

    step: int
    value: float
    evaluations_since: int = 0


def judge(
    rule: EarlyStopping, best: Best | None, step: int, report: Report
) -> tuple[Best, bool]:
    """Tells the best evaluation including this one, and whether training ends."""
    value = rule.value(report)
    if best is None or rule.watched.is_better(value, best.value):
        return Best(step, value), False
    best = dataclasses.replace(best, evaluations_since=best.evaluations_since + 1)
    return best, best.evaluations_since >= rule.patience


def best_from(stored: dict[str, Any] | None) -> Best | None:
    """The `Best` of which `dataclasses.asdict` made `stored`; None of None."""
    return None if stored is None else Best(**stored)
