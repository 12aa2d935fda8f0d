"""Evaluates a ranking model on named validation sets."""

import functools
import math
import sys
import warnings
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tf_keras as keras
import tqdm

from recap_tf.core.auroc import AUROC
from recap_tf.core.counts import ExampleCount, PositiveCount
from recap_tf.core.entropy import NRCE, RCE
from recap_tf.core.means import CTR, PCTR, CalibrationRatio
from recap_tf.input import Mode, read_batches
from recap_tf.model import RankingModel
from recap_tf.validation_sets import EvaluateSettings, ValidationSet

Report = dict[str, dict[str, dict[str, float]]]
"""Validation set -> task -> metric -> value; NaN where there is none."""

METRICS: Mapping[str, tuple[Callable[[int], keras.metrics.Metric], str]] = {
    "examples": (ExampleCount, "{:,.0f}"),
    "positives": (PositiveCount, "{:,.0f}"),
    "ctr": (CTR, "{:.5f}"),
    "pctr": (PCTR, "{:.5f}"),
    "calibration": (CalibrationRatio, "{:.3f}"),
    # float32 holds float32 probabilities exactly, in half the memory.
    "auroc": (functools.partial(AUROC, dtype="float32"), "{:.4f}"),
    "rce": (RCE, "{:.2f}"),
    "nrce": (NRCE, "{:.2f}"),
}
"""Name -> (what makes the metric from the number of tasks, how the table shows it)."""


class Evaluator:
    """Evaluates a model, as often as asked, without tracing its graph again.

    Examples count as their set's sampling rates say; predictions are the calibrated
    probabilities. So all metrics are about the original traffic, however the model's
    training data and the set were sampled.

    Args:
        model: the model.
        sets: what to evaluate it on.
        settings: how to read them.
    """

    def __init__(
        self,
        model: RankingModel,
        sets: Sequence[ValidationSet],
        settings: EvaluateSettings,
    ):
        self._model = model
        self._sets = sets
        self._settings = settings
        tasks = len(model.tasks)
        self._metrics = {name: make(tasks) for name, (make, _) in METRICS.items()}
        self._update = tf.function(self._update_metrics, reduce_retracing=True)

    def evaluate(self) -> Report:
        """The metrics of every set, with a progress bar on stderr."""
        return {named.name: self._evaluate_set(named) for named in self._sets}

    def _evaluate_set(self, named: ValidationSet) -> dict[str, dict[str, float]]:
        for metric in self._metrics.values():
            metric.reset_state()
        batches = read_batches(
            named.records, self._model.tasks, Mode.EVALUATE, self._settings.batch_size
        ).take(self._settings.steps)
        for features, labels, weights in _with_progress(batches, named.name):
            self._update(features, labels, weights)
        with warnings.catch_warnings():
            # A set without positives of a task shows as "-" in the table.
            warnings.simplefilter("ignore", RuntimeWarning)
            values = {
                name: metric.result().numpy() for name, metric in self._metrics.items()
            }
        return {
            task: {
                name: float(values[name][self._model.tasks.index(task)])
                for name in self._metrics
            }
            for task in named.tasks or self._model.tasks
        }

    def _update_metrics(self, features, labels, weights) -> None:
        outputs = self._model(features, training=False)
        for metric in self._metrics.values():
            metric.update_state(labels, outputs["calibrated_probabilities"], weights)


def _with_progress(batches: tf.data.Dataset, name: str) -> Iterable[Any]:
    seconds = 0.5 if sys.stderr.isatty() else 10.0
    return tqdm.tqdm(
        batches, f"evaluate {name}", unit="batch", mininterval=seconds, leave=False
    )


def format_table(report: Report) -> str:
    """The report as a table for people; "-" where a metric has no value.

    Tasks are shown without the dotted prefix that all of them share.
    """
    names = {task for tasks in report.values() for task in tasks}
    prefixes = {name[: name.rfind(".") + 1] for name in names}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    rows = [("set", "task", *METRICS)]
    for name, tasks in report.items():
        for task, values in tasks.items():
            shown = [
                "-" if math.isnan(values[metric]) else form.format(values[metric])
                for metric, (_, form) in METRICS.items()
            ]
            rows.append((name, task.removeprefix(prefix), *shown))
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )


def as_json(step: int, report: Report) -> dict[str, Any]:
    """{"step", "sets": {set: {task: {metric: value}}}}; null where there is none."""
    return {
        "step": step,
        "sets": {
            name: {task: _without_nan(values) for task, values in tasks.items()}
            for name, tasks in report.items()
        },
    }


def _without_nan(values: Mapping[str, float]) -> dict[str, float | None]:
    return {k: None if math.isnan(v) else v for k, v in values.items()}
