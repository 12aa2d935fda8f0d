"""Metrics of all tasks in all slices, updated batch by batch."""

import warnings
from collections.abc import Mapping, Sequence

import tensorflow as tf

from recap_tf.evaluation.evaluation_report import Measured, SetReport, TaskReport
from recap_tf.evaluation.slices import EVERYTHING
from recap_tf.metrics import metric_choice
from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.metric_choice import SCORE

_SETTING = "recap.evaluate.which_metrics"


class Measurements:
    """Every metric of every task, of all examples and of those in each slice.

    With score weights, metrics that mean something for the score that tasks are
    combined to are reported of it too, as of a task called `SCORE`. Its truth is the
    gain, the weighted sum of the labels, or for metrics of 0/1 labels whether there
    was an engagement of positive weight; see `metric_choice.Choice`. An example counts
    for it as much as for its tasks on average.

    Args:
        tasks: names, in the order of the columns.
        which: names of the metrics; see `metric_choice`.
        slices: names, in the order of the masks.
        score_weights: task -> its weight in the score; none without one.
    """

    def __init__(
        self,
        tasks: Sequence[str],
        which: Sequence[str],
        slices: Sequence[str] = (),
        score_weights: Mapping[str, float] = {},
    ):
        if score_weights and SCORE in tasks:
            raise ValueError(
                f"recap.ranker.tasks must not name {SCORE!r} where there are score "
                "weights: the report calls the weighted sum so."
            )
        self._tasks = list(tasks)
        self._weights = [float(score_weights.get(task, 0.0)) for task in tasks]
        choices = {name: metric_choice.find(name, _SETTING) for name in which}
        self._truths = {
            name: choice.on_score
            for name, choice in choices.items()
            if score_weights and choice.on_score is not None
        }
        names = [EVERYTHING, *slices]
        self._metrics = {
            part: {name: choice.make(len(tasks)) for name, choice in choices.items()}
            for part in names
        }
        self._score_metrics = {
            part: {name: choices[name].make(1) for name in self._truths}
            for part in names
        }

    def reset(self) -> None:
        """Forgets all examples."""
        for of_part in (*self._metrics.values(), *self._score_metrics.values()):
            for metric in of_part.values():
                metric.reset_state()

    def update(
        self,
        outputs: Mapping[str, tf.Tensor],
        labels: tf.Tensor,
        weights: tf.Tensor,
        slices: tf.Tensor,
        groups: tf.Tensor | None = None,
    ) -> None:
        """Takes in a batch.

        Args:
            outputs: of the model: "calibrated_probabilities" (batch, tasks), and
                "score" (batch,) if there are score weights.
            labels: (batch, tasks), 0 or 1.
            weights: (batch, tasks), how much an example counts.
            slices: (slices, batch) bool, in the order of their names.
            groups: (batch,) int64; for metrics of groups.
        """
        predictions = outputs["calibrated_probabilities"]
        truths = self._score_truths(labels) if self._truths else {}
        score_weight = tf.reduce_mean(weights, axis=1, keepdims=True)
        for i, (part, metrics) in enumerate(self._metrics.items()):
            inside = 1.0 if i == 0 else tf.cast(slices[i - 1], weights.dtype)[:, None]
            for metric in metrics.values():
                metric.update_state(labels, predictions, weights * inside, groups)
            for name, metric in self._score_metrics[part].items():
                metric.update_state(
                    truths[self._truths[name]],
                    outputs["score"][:, None],
                    score_weight * inside,
                    groups,
                )

    def _score_truths(self, labels: tf.Tensor) -> dict[str, tf.Tensor]:
        labels = tf.cast(labels, tf.float32)
        weights = tf.constant(self._weights, tf.float32)
        gain = tf.linalg.matvec(labels, weights)[:, None]
        engaged = tf.reduce_max(labels * tf.cast(weights > 0, tf.float32), axis=1)
        return {"gain": gain, "engaged": engaged[:, None]}

    def report(self, tasks: Sequence[str] | None = None) -> SetReport:
        """Reports what all examples since the last reset gave.

        Args:
            tasks: those to report; none for all and for the score.
        """
        return {part: self._part(part, tasks) for part in self._metrics}

    def _part(self, part: str, tasks: Sequence[str] | None) -> TaskReport:
        columns = {task: i for i, task in enumerate(self._tasks)}
        measured = _measure(self._metrics[part])
        reported = {
            task: {name: values[columns[task]] for name, values in measured.items()}
            for task in tasks or self._tasks
        }
        # A set that was sampled for one task tells nothing about their sum.
        if self._truths and tasks is None:
            of_score = _measure(self._score_metrics[part])
            reported[SCORE] = {name: values[0] for name, values in of_score.items()}
        return reported


def _measure(metrics: Mapping[str, ExampleMetric]) -> dict[str, list[Measured]]:
    """What each metric measured: name -> values, one per column."""
    with warnings.catch_warnings():
        # A set without positives of a task shows as "-" in the table.
        warnings.simplefilter("ignore", RuntimeWarning)
        pairs = {name: metric.value_and_error() for name, metric in metrics.items()}
    return {
        name: [
            Measured(float(value), float(error))
            for value, error in zip(*(column.numpy() for column in pair), strict=True)
        ]
        for name, pair in pairs.items()
    }
