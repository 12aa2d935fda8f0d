"""How well predictions are calibrated, before and after post-hoc calibrators."""

import dataclasses
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recap_tf.core.text_table import aligned
from recap_tf.evaluation.evaluation_report import common_prefix
from recap_tf.metrics import metric_choice
from recap_tf.model.calibrators import Calibrators

MEASURES = ("calibration", "calibration_error", "log_loss", "auroc")
"""The metrics that are compared."""


@dataclasses.dataclass(frozen=True)
class ScoredSet:
    """What a model makes of a validation set.

    Args:
        tasks: names of the columns.
        log_odds: (examples, tasks), see `RankingModel.log_odds`.
        labels, weights: (examples, tasks).
    """

    tasks: Sequence[str]
    log_odds: np.ndarray
    labels: np.ndarray
    weights: np.ndarray

    def column(self, task: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The (log odds, labels, weights) of the examples of some weight for `task`."""
        i = self.tasks.index(task)
        weighted = self.weights[:, i] > 0
        return (
            self.log_odds[weighted, i],
            self.labels[weighted, i],
            self.weights[weighted, i],
        )


@dataclasses.dataclass(frozen=True)
class CalibrationComparison:
    """One task on one set, before and after.

    Args:
        validation_set: the set's name.
        task: the task's name.
        method: "platt" or "isotonic", of the task's calibrator.
        fitted_here: the calibrator was fitted on this very set.
        examples, positives: how many of some weight.
        before, after: measure -> value; NaN where there is none.
    """

    validation_set: str
    task: str
    method: str
    fitted_here: bool
    examples: int
    positives: int
    before: Mapping[str, float]
    after: Mapping[str, float]

    def as_json(self) -> dict[str, Any]:
        """All of it as a dict; None for no value."""
        described = dataclasses.asdict(self)
        for key in ("before", "after"):
            values = described[key].items()
            described[key] = {n: None if math.isnan(v) else v for n, v in values}
        return described


def compare(
    calibrators: Calibrators, name: str, task: str, scored: ScoredSet
) -> CalibrationComparison:
    """What the calibrator of `task` changes on validation set `name`."""
    log_odds, labels, weights = scored.column(task)
    before = tf.sigmoid(log_odds).numpy()
    after = calibrators.maps[task](tf.constant(log_odds, tf.float32)).numpy()
    return CalibrationComparison(
        validation_set=name,
        task=task,
        method=calibrators.maps[task].method,
        fitted_here=calibrators.fitted_on[task] == name,
        examples=len(labels),
        positives=int(np.count_nonzero(labels)),
        before=measure(labels, before, weights),
        after=measure(labels, after, weights),
    )


def measure(
    labels: np.ndarray, probabilities: np.ndarray, weights: np.ndarray
) -> dict[str, float]:
    """The values of MEASURES of one task, (examples,) each; NaN where there is none."""
    values = {}
    for name in MEASURES:
        metric = metric_choice.find(name, "MEASURES").make(None)
        metric.update_state(labels, probabilities, weights)
        with warnings.catch_warnings():
            # A set without positives of a task shows as "-" in the table.
            warnings.simplefilter("ignore", RuntimeWarning)
            values[name] = float(metric.result())
    return values


def format_comparisons(comparisons: Sequence[CalibrationComparison]) -> str:
    """The comparisons as a table for people, each value as `before -> after`."""
    prefix = common_prefix(compared.task for compared in comparisons)
    rows = [("set", "task", "method", "examples", "positives", *MEASURES)]
    for compared in comparisons:
        pair = (compared.before, compared.after)
        changes = [
            " -> ".join(_shown(name, values[name]) for values in pair)
            for name in MEASURES
        ]
        where = compared.validation_set + (" (fitted)" if compared.fitted_here else "")
        counts = (f"{compared.examples:,}", f"{compared.positives:,}")
        task = compared.task.removeprefix(prefix)
        rows.append((where, task, compared.method, *counts, *changes))
    return aligned(rows, left=3)


def _shown(name: str, value: float) -> str:
    form = metric_choice.find(name, "MEASURES").form
    return "-" if math.isnan(value) else form.format(value)
