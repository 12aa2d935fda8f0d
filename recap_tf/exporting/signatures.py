"""What an export can be asked to compute: its signatures, as graph functions."""

import posixpath
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from recap_tf.core.command import UserError
from recap_tf.data import record_batches
from recap_tf.data.record_batches import Records
from recap_tf.data.schema import read_schema
from recap_tf.exporting.inputs import (
    RankInputs,
    padded_specs,
    with_padding,
    without_padding,
)
from recap_tf.model.score import weighted_score
from recap_tf.model.scorer import Scorer
from recap_tf.settings import ExportSettings

TASK_WEIGHTS = "task_weights"
"""The input of the signatures that take score weights."""
Outputs = dict[str, tf.Tensor]
_constants = tf.compat.v1.saved_model.signature_constants
METHODS = {
    "classify": _constants.CLASSIFY_METHOD_NAME,
    "regress": _constants.REGRESS_METHOD_NAME,
}
"""Signature -> its method, of those that are not called by Predict."""
OF_EXAMPLES = {
    "serve_examples": "examples",
    "score_examples": "examples",
    "classify": _constants.CLASSIFY_INPUTS,
    "regress": _constants.REGRESS_INPUTS,
}
"""Signature -> its input of serialized examples."""


class ServedRanker:
    """The graph functions of an export; `export_model` says what they take and give.

    It is no tf.Module: what it holds, Keras classes above all, is not to be saved.

    Args:
        model: scores features after preprocessing.
        records: what the model was trained on; says what the features look like.
        settings: which inputs of `rank` are the viewer's.

    Raises:
        UserError: a feature has the name of another input, or the settings do not
            fit the features.
    """

    def __init__(self, model: Scorer, records: Records, settings: ExportSettings):
        self._model = model
        self._records = records
        self.raw_specs = record_batches.raw_feature_specs(records)
        self._specs = padded_specs(self.raw_specs)
        self._rank_inputs = rank_inputs(records, settings)
        self._parsing_spec = record_batches.parsing_spec(
            read_schema(records.schema), list(records.names())
        )
        # One function that all signatures call: the model is traced and saved once.
        self._score = tf.function(self._of_features, input_signature=[self.raw_specs])

    def signatures(self) -> dict[str, Callable[..., Outputs]]:
        """The signatures of the export: name -> tf.function."""
        tasks = len(self._model.tasks)
        examples = tf.TensorSpec([None], tf.string, "examples")
        inputs = tf.TensorSpec([None], tf.string, "inputs")
        rows = tf.TensorSpec([None, tasks], tf.float32, TASK_WEIGHTS)
        row = tf.TensorSpec([1, tasks], tf.float32, TASK_WEIGHTS)
        weighted = self._specs | {TASK_WEIGHTS: rows}
        known = {
            "serving_default": (self._of_padded, [self._specs]),
            "serve_examples": (self._of_examples, [examples]),
            "score": (self._of_padded_with_weights, [weighted]),
            "score_examples": (self._of_examples_with_weights, [examples, rows]),
            "rank": (self._ranking(), [self._rank_inputs.specs, row]),
            "classify": (self._classify, [inputs]),
            "regress": (self._regress, [inputs]),
            "tasks": (self._tasks, []),
        }
        model = self._model
        return {
            name: tf.function(known[name][0], input_signature=known[name][1])
            for name in signature_names(model.tasks, model.score_weights)
        }

    def request(self, signature: str, examples: np.ndarray) -> dict[str, np.ndarray]:
        """The inputs with which a request of `signature` scores serialized examples.

        For `rank` they are candidates of one viewer, the first one's. Score weights
        are the model's own.
        """
        weights = self._score_weights()
        if signature in OF_EXAMPLES:
            inputs = {OF_EXAMPLES[signature]: examples}
        else:
            padded = with_padding(self._parsed(tf.constant(examples)))
            inputs = {name: value.numpy() for name, value in padded.items()}
        if signature == "rank":
            inputs = self._rank_inputs.split(inputs)
            if weights is None:
                weights = np.ones([1, len(self._model.tasks)], np.float32)
            inputs[TASK_WEIGHTS] = weights
        elif signature.startswith("score"):
            inputs[TASK_WEIGHTS] = np.repeat(weights, len(examples), axis=0)
        return inputs

    def _parsed(self, examples):
        parsed = tf.io.parse_example(examples, self._parsing_spec)
        return record_batches.rename(self._records, parsed)

    def _of_features(self, features) -> Outputs:
        features = record_batches.serving_features(self._records, features)
        return self._model(features, training=False)

    def _of_padded(self, inputs) -> Outputs:
        return self._score(without_padding(inputs, self.raw_specs))

    def _of_examples(self, examples) -> Outputs:
        return self._score(self._parsed(examples))

    def _of_padded_with_weights(self, inputs) -> Outputs:
        return _reweighted(self._of_padded(inputs), inputs[TASK_WEIGHTS])

    def _of_examples_with_weights(self, examples, task_weights) -> Outputs:
        return _reweighted(self._of_examples(examples), task_weights)

    def _ranking(self) -> Callable[..., Outputs]:
        def rank(inputs, task_weights):
            outputs = self._of_padded(self._rank_inputs.repeated(inputs))
            score = _reweighted(outputs, task_weights)["score"]
            return {
                "score": score,
                "calibrated_probabilities": outputs["calibrated_probabilities"],
                "order": tf.argsort(score, direction="DESCENDING"),
            }

        weights = self._score_weights()
        if weights is None:
            return rank
        # A default of the function becomes one of the signature.
        default = tf.constant(weights)

        def rank_with_default(inputs, task_weights=default):
            return rank(inputs, task_weights)

        return rank_with_default

    def _classify(self, inputs) -> Outputs:
        scores = self._of_examples(inputs)["calibrated_probabilities"]
        classes = tf.broadcast_to(tf.constant(self._model.tasks), tf.shape(scores))
        return {"classes": classes, "scores": scores}

    def _regress(self, inputs) -> Outputs:
        outputs = self._of_examples(inputs)
        if self._model.score_weights:
            return {"outputs": outputs["score"]}
        return {"outputs": outputs["calibrated_probabilities"][:, 0]}

    def _tasks(self) -> Outputs:
        model, weights = self._model, self._score_weights()
        ratios = [model.calibration_ratios[task] for task in model.tasks]
        outputs = {
            "tasks": tf.constant(model.tasks),
            "calibration_ratios": tf.constant(ratios, tf.float32),
        }
        if weights is not None:
            outputs["score_weights"] = tf.constant(weights[0])
        return outputs

    def _score_weights(self) -> np.ndarray | None:
        """The model's score weights, (1, tasks); None if it has none."""
        model = self._model
        if not model.score_weights:
            return None
        return np.array([[model.score_weights[t] for t in model.tasks]], np.float32)


def signature_names(
    tasks: Sequence[str], score_weights: Mapping[str, float]
) -> list[str]:
    """The names of an export's signatures; some need a score."""
    names = ["serving_default", "serve_examples", "rank", "classify", "tasks"]
    if score_weights:
        names += ["score", "score_examples"]
    if score_weights or len(tasks) == 1:
        names += ["regress"]
    return names


def rank_inputs(records: Records, settings: ExportSettings) -> RankInputs:
    """The inputs of `rank`, after all checks that need no model.

    Raises:
        UserError: see `ServedRanker`.
    """
    specs = padded_specs(record_batches.raw_feature_specs(records))
    inputs = RankInputs(specs, settings.viewer_features, settings.viewer_columns)
    if TASK_WEIGHTS in inputs.specs:
        raise UserError(
            f"A feature must not be called {TASK_WEIGHTS!r} in Records.features: the "
            "served model takes score weights under that name."
        )
    return inputs


def _reweighted(outputs: Outputs, task_weights: tf.Tensor) -> Outputs:
    probabilities = outputs["calibrated_probabilities"]
    return outputs | {"score": weighted_score(probabilities, task_weights)}


def name_methods(folder: str) -> None:
    """Gives the signatures of a SavedModel their `METHODS`.

    `tf.saved_model.save` says of each that it is called by Predict.
    """
    path = posixpath.join(folder, "saved_model.pb")
    with tf.io.gfile.GFile(path, "rb") as file:
        model = saved_model_pb2.SavedModel.FromString(file.read())
    for name, method in METHODS.items():
        signatures = model.meta_graphs[0].signature_def
        if name in signatures:
            signatures[name].method_name = method
    with tf.io.gfile.GFile(path, "wb") as file:
        file.write(model.SerializeToString(deterministic=True))
    # It is of the file before; models without one are legal.
    fingerprint = posixpath.join(folder, "fingerprint.pb")
    if tf.io.gfile.exists(fingerprint):
        tf.io.gfile.remove(fingerprint)
