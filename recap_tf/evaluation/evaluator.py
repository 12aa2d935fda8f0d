"""Evaluates a ranking model on named validation sets."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tqdm

from recap_tf.evaluation.evaluation_batches import EvaluationBatch, EvaluationInput
from recap_tf.evaluation.evaluation_report import Report, SetReport
from recap_tf.evaluation.measurements import Measurements
from recap_tf.evaluation.traced_specs import TracedSpecs
from recap_tf.evaluation.validation_sets import EvaluateSettings, ValidationSet
from recap_tf.model.scorer import Scorer

Observe = Callable[[str, EvaluationBatch, Mapping[str, tf.Tensor]], None]
"""Watches each batch as it passes: the set's name, the batch, the model's outputs."""


class Evaluator:
    """Evaluates a model, as often as asked, without tracing its graph again.

    Examples count as their set's sampling rates say; predictions are the calibrated
    probabilities. So all metrics are about the original traffic, however the model's
    training data and the set were sampled.

    Args:
        model: with its weights, which may change between evaluations.
        sets: what to evaluate it on.
        settings: how to read them and what to measure.
        specs: those that the run has traced, so that none is traced twice.

    Raises:
        ValueError: a slice or a metric's group has no feature; see `EvaluationInput`.
    """

    def __init__(
        self,
        model: Scorer,
        sets: Sequence[ValidationSet],
        settings: EvaluateSettings,
        specs: TracedSpecs | None = None,
    ):
        specs = specs or TracedSpecs()
        self._model = model
        self._sets = sets
        self._inputs = {
            named.name: EvaluationInput(named, settings, specs) for named in sets
        }
        self._measurements = Measurements(
            model.tasks,
            settings.which_metrics,
            [part.name for part in settings.slices],
            model.score_weights,
        )
        self._update = tf.function(self._update_metrics, reduce_retracing=True)

    def evaluate(self, observe: Observe | None = None) -> Report:
        """Measures the metrics of every set, with a progress bar on stderr."""
        return {named.name: self.evaluate_set(named, observe) for named in self._sets}

    def evaluate_set(
        self, named: ValidationSet, observe: Observe | None = None
    ) -> SetReport:
        """Measures the metrics of one of the sets."""
        self._measurements.reset()
        batches = self._inputs[named.name].batches(self._model.tasks)
        for batch in _with_progress(batches, named.name):
            outputs = self._update(batch)
            if observe is not None:
                observe(named.name, batch, outputs)
        return self._measurements.report(named.tasks)

    def _update_metrics(self, batch: EvaluationBatch) -> Mapping[str, tf.Tensor]:
        outputs = self._model(batch.features, training=False)
        self._measurements.update(
            outputs, batch.labels, batch.weights, batch.slices, batch.groups
        )
        return outputs


def _with_progress(batches: tf.data.Dataset, name: str) -> Iterable[Any]:
    seconds = 0.5 if sys.stderr.isatty() else 10.0
    return tqdm.tqdm(
        batches, f"evaluate {name}", unit="batch", mininterval=seconds, leave=False
    )
