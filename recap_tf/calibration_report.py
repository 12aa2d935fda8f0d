"""How well predictions are calibrated, before and after post-hoc calibrators."""

import dataclasses
import functools
import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recap_tf.calibrators import Calibrators
from recap_tf.core.auroc import AUROC
from recap_tf.core.calibration_error import CalibrationError
from recap_tf.core.log_loss import LogLoss
from recap_tf.core.means import CalibrationRatio
from recap_tf.core.task_metric import TaskMetric

# float32 holds float32 probabilities exactly.
MEASURES: Mapping[str, tuple[Callable[[], TaskMetric], str]] = {
    "calibration": (CalibrationRatio, "{:.3f}"),
    "calibration_error": (
        functools.partial(CalibrationError, dtype="float32"),
        "{:.5f}",
    ),
    "log_loss": (LogLoss, "{:.5f}"),
    "auroc": (functools.partial(AUROC, dtype="float32"), "{:.4f}"),
}
"""Name -> (what makes the metric, how the table shows it)."""


@dataclasses.dataclass(frozen=True)
class Scored:
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
        """(log odds, labels, weights) of the examples of some weight for `task`."""
        i = self.tasks.index(task)
        kept = self.weights[:, i] > 0
        return (
            self.log_odds[kept, i],
            self.labels[kept, i],
            self.weights[kept, i],
        )


@dataclasses.dataclass(frozen=True)
class Comparison:
    """One task on one set, before and after.

    Args:
        validation_set: its name.
        task: its name.
        method: of the task's calibrator.
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
        """As a dict; null for no value."""
        described = dataclasses.asdict(self)
        for key in ("before", "after"):
            values = described[key].items()
            described[key] = {n: None if math.isnan(v) else v for n, v in values}
        return described


def compare(
    calibrators: Calibrators, name: str, task: str, scored: Scored
) -> Comparison:
    """What the calibrator of `task` changes on validation set `name`."""
    log_odds, labels, weights = scored.column(task)
    before = tf.sigmoid(log_odds).numpy()
    after = calibrators.maps[task](tf.constant(log_odds, tf.float32)).numpy()
    return Comparison(
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
    for name, (make, _) in MEASURES.items():
        metric = make()
        metric.update_state(labels, probabilities, weights)
        with warnings.catch_warnings():
            # A set without positives of a task shows as "-" in the table.
            warnings.simplefilter("ignore", RuntimeWarning)
            values[name] = float(metric.result())
    return values


def format_comparisons(comparisons: Sequence[Comparison]) -> str:
    """The comparisons as a table for people, each value as `before -> after`."""
    prefixes = {one.task[: one.task.rfind(".") + 1] for one in comparisons}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    rows = [("set", "task", "method", "examples", "positives", *MEASURES)]
    for one in comparisons:
        changes = [
            f"{_shown(form, one.before[name])} -> {_shown(form, one.after[name])}"
            for name, (_, form) in MEASURES.items()
        ]
        where = one.validation_set + (" (fitted)" if one.fitted_here else "")
        counts = (f"{one.examples:,}", f"{one.positives:,}")
        task = one.task.removeprefix(prefix)
        rows.append((where, task, one.method, *counts, *changes))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 3 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def _shown(form: str, value: float) -> str:
    return "-" if math.isnan(value) else form.format(value)
