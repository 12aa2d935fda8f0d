"""What another form of a trained ranker changes: its predictions, its AUROC."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from recap_tf.core.text_table import aligned
from recap_tf.evaluation.evaluation_batches import EvaluationInput
from recap_tf.evaluation.measurements import Measurements
from recap_tf.evaluation.slices import EVERYTHING
from recap_tf.evaluation.validation_sets import EvaluateSettings, ValidationSet
from recap_tf.metrics.metric_choice import SCORE
from recap_tf.model.scorer import Scorer

_METRIC = "auroc"


@dataclasses.dataclass(frozen=True)
class Change:
    """What a variant changes of one task's calibrated probability, or of the score.

    Args:
        auroc_before: of the trained model.
        auroc: of the variant.
        mean_change, largest_change: of |variant - trained| over the examples.
        spread: standard deviation of the trained model's predictions, which says
            whether the changes are large.
    """

    auroc_before: float
    auroc: float
    mean_change: float
    largest_change: float
    spread: float


Changes = dict[str, dict[str, Change]]
"""Validation set -> task, or `SCORE` -> change."""


def compare(
    trained: Scorer,
    variant: Scorer,
    sets: Sequence[ValidationSet],
    settings: EvaluateSettings,
) -> Changes:
    """Scores the validation sets with both.

    Args:
        trained: the model as it was trained.
        variant: another form of it.
        sets: the validation sets; each reports its own tasks.
        settings: how the sets are read; slices and metrics are not looked at.
    """
    settings = dataclasses.replace(settings, which_metrics=(_METRIC,), slices=())
    sides = [_Side(model) for model in (trained, variant)]
    changes = {}
    for named in sets:
        for side in sides:
            side.measurements.reset()
        differences = _Differences()
        for batch in EvaluationInput(named, settings).batches(trained.tasks):
            differences.update(*(side.predict(batch).numpy() for side in sides))
        aurocs = [
            {
                task: values[_METRIC].value
                for task, values in side.measurements.report(named.tasks)[
                    EVERYTHING
                ].items()
            }
            for side in sides
        ]
        columns = [*trained.tasks, SCORE]
        changes[named.name] = {
            task: Change(before, aurocs[1][task], *differences.of(columns.index(task)))
            for task, before in aurocs[0].items()
        }
    return changes


class _Side:
    """One of the two models and its metrics."""

    def __init__(self, model: Scorer):
        self._model = model
        self.measurements = Measurements(
            model.tasks, (_METRIC,), (), model.score_weights
        )
        self.predict = tf.function(self._predict, reduce_retracing=True)

    def _predict(self, batch) -> tf.Tensor:
        """Predictions, (batch, tasks), and a column for the score if there is one."""
        outputs = self._model(batch.features, training=False)
        self.measurements.update(outputs, batch.labels, batch.weights, batch.slices)
        columns = [outputs["calibrated_probabilities"]]
        if self._model.score_weights:
            columns.append(outputs["score"][:, tf.newaxis])
        return tf.concat(columns, axis=1)


class _Differences:
    """Sums over the examples of a set, for each column."""

    def __init__(self):
        self._count = 0
        self._sums = self._squares = self._changes = self._largest = np.float64(0)

    def update(self, before: np.ndarray, after: np.ndarray) -> None:
        before = before.astype(np.float64)
        change = np.abs(after - before)
        self._count += len(before)
        self._sums = self._sums + before.sum(axis=0)
        self._squares = self._squares + (before**2).sum(axis=0)
        self._changes = self._changes + change.sum(axis=0)
        self._largest = np.maximum(self._largest, change.max(axis=0))

    def of(self, column: int) -> tuple[float, float, float]:
        """The mean change, the largest one, the standard deviation before."""
        mean = self._sums[column] / self._count
        variance = self._squares[column] / self._count - mean**2
        return (
            float(self._changes[column] / self._count),
            float(self._largest[column]),
            float(np.sqrt(max(variance, 0.0))),
        )


def as_json(changes: Changes) -> dict[str, Any]:
    """The changes as plain dicts; null for an AUROC that there is not."""

    def finite(value: float) -> float | None:
        return value if np.isfinite(value) else None

    return {
        name: {
            task: {key: finite(v) for key, v in dataclasses.asdict(change).items()}
            for task, change in tasks.items()
        }
        for name, tasks in changes.items()
    }


def format_comparison(changes: Mapping[str, Mapping[str, Change]]) -> str:
    """The changes as a table, as shares of the predictions' spread."""
    rows = [["set", "task", "auroc", "change", "mean |change|", "largest"]]
    for name, tasks in changes.items():
        for task, change in tasks.items():
            spread = change.spread or np.nan
            rows.append(
                [
                    name,
                    task.rsplit(".", 1)[-1],
                    f"{change.auroc_before:.4f}",
                    f"{change.auroc - change.auroc_before:+.5f}",
                    f"{change.mean_change / spread:.1e}",
                    f"{change.largest_change / spread:.1e}",
                ]
            )
    return aligned(rows, left=2)
