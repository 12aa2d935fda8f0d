"""A trained model as a SavedModel that any TensorFlow process loads and scores with."""

import json
import posixpath
from collections.abc import Mapping

import tensorflow as tf

from recap_tf import input as records_input
from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.model_versions import next_version
from recap_tf.input import FeatureSpec, Records
from recap_tf.model import RankingModel
from recap_tf.schema import VARIABLE, read_schema
from recap_tf.score import weighted_score

TASKS_FILE = "ranker.json"
"""In assets.extra of a version: tasks, calibration, score weights, step, features."""
TASK_WEIGHTS = "task_weights"
"""The input of the signatures that take score weights."""


def export_model(
    model: RankingModel, records: Records, folder: str, step: int, version: int | None
) -> str:
    """Writes the next version of a served model; returns its folder.

    The version has the signatures

        serving_default  the features as the records hold them, each (batch, length);
                         one of variable length as (batch, any), filled up with
                         whatever, and "<name>_length", (batch,), how many count
        serve_examples   "examples", (batch,) serialized tf.Examples

    both -> "logits", "probabilities", "calibrated_probabilities", each (batch, tasks)
    float32; and `tasks`, which takes nothing and gives "tasks", the names of the
    columns, and "calibration_ratios". A feature that an example lacks counts as zeros,
    one of variable length as empty. The steps of `records.preprocess` that belong to
    serving are inside, and so are the model's post-hoc calibrators. The folder appears
    complete or not at all.

    If the model has score weights, the first two also give "score", (batch,) float32,
    `tasks` gives "score_weights", (tasks,), and there are

        score            the features and "task_weights", (batch, tasks) float32
        score_examples   "examples" and "task_weights"

    which give the same outputs, the score with the request's weights instead. Weights
    are given for each row because TF Serving's batching wants the same first dimension
    of all inputs and outputs; without batching one row serves for all. They are inputs
    of signatures of their own because an input with a default (`SignatureDef.defaults`)
    would be one row, which batching refuses, and because `tf.saved_model.load` and
    older servers do not fill it in.

    Args:
        model: with its trained weights and its calibrators.
        records: what the model was trained on; says what the features look like.
        folder: of all versions.
        step: of the weights, for the record.
        version: its number; none for one more than the highest there.

    Raises:
        UserError: that version exists.
    """
    number = next_version(folder) if version is None else version
    path = posixpath.join(folder, str(number))
    if tf.io.gfile.exists(path):
        raise UserError(f"{path} exists; versions are never overwritten.")
    raw_specs = records_input.raw_feature_specs(records)
    spec = records_input.parsing_spec(
        read_schema(records.schema), list(records.names())
    )
    served = tf.Module()
    # The variables alone: with the Keras model, its classes' names would be saved too.
    served.variables_of_model = model.variables
    if model.large_embeddings is not None:
        served.vocabularies = model.large_embeddings.lookup_tables

    def score(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features = records_input.serving_features(records, features)
        return model(features, training=False)

    def score_padded(features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return score(_without_padding(features, raw_specs))

    def score_examples(examples: tf.Tensor) -> dict[str, tf.Tensor]:
        parsed = tf.io.parse_example(examples, spec)
        return score(records_input.rename(records, parsed))

    def tasks() -> dict[str, tf.Tensor]:
        ratios = [model.calibration_ratios[task] for task in model.tasks]
        weights = [model.score_weights[task] for task in model.tasks if weighted]
        return {
            "tasks": tf.constant(model.tasks),
            "calibration_ratios": tf.constant(ratios, tf.float32),
        } | ({"score_weights": tf.constant(weights, tf.float32)} if weighted else {})

    weighted = bool(model.score_weights)
    padded_specs = _padded(raw_specs)
    examples_spec = tf.TensorSpec([None], tf.string, "examples")
    signatures = {
        "serving_default": tf.function(score_padded, input_signature=[padded_specs]),
        "serve_examples": tf.function(score_examples, input_signature=[examples_spec]),
        "tasks": tf.function(tasks, input_signature=[]),
    }
    if weighted:
        signatures |= _signatures_with_weights(
            score_padded, score_examples, padded_specs, examples_spec, len(model.tasks)
        )
    with files.new_folder(path) as aside:
        tf.saved_model.save(served, aside, signatures)
        described = {
            "step": step,
            "tasks": model.tasks,
            "calibration_ratios": model.calibration_ratios,
            "calibrators": model.calibrators and model.calibrators.as_json(),
            "score_weights": model.score_weights,
            "features": {n: one.shape[1] or VARIABLE for n, one in raw_specs.items()},
        }
        extra = posixpath.join(aside, "assets.extra", TASKS_FILE)
        files.write_text(extra, json.dumps(described, indent=1) + "\n")
    return path


def _signatures_with_weights(score, score_examples, specs, examples_spec, tasks):
    """The signatures whose requests bring their own score weights."""
    if TASK_WEIGHTS in specs:
        raise UserError(
            f"A feature must not be called {TASK_WEIGHTS!r} in Records.features: the "
            "served model takes score weights under that name."
        )

    def reweighted(outputs, task_weights):
        probabilities = outputs["calibrated_probabilities"]
        return outputs | {"score": weighted_score(probabilities, task_weights)}

    def score_with_weights(inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        features = dict(inputs)
        task_weights = features.pop(TASK_WEIGHTS)
        return reweighted(score(features), task_weights)

    def score_examples_with_weights(examples, task_weights) -> dict[str, tf.Tensor]:
        return reweighted(score_examples(examples), task_weights)

    weights_spec = tf.TensorSpec([None, tasks], tf.float32, TASK_WEIGHTS)
    return {
        "score": tf.function(
            score_with_weights,
            input_signature=[specs | {TASK_WEIGHTS: weights_spec}],
        ),
        "score_examples": tf.function(
            score_examples_with_weights, input_signature=[examples_spec, weights_spec]
        ),
    }


def _padded(specs: Mapping[str, FeatureSpec]) -> dict[str, tf.TensorSpec]:
    """The specs of dense tensors alone.

    A request of TF Serving holds no sparse tensors, and its batching wants equal first
    dimensions, which their parts have not. A length, unlike a value that means
    "nothing", leaves all ids possible, and lets the server pad rows as it likes.
    """
    padded = {}
    for name, spec in specs.items():
        if not isinstance(spec, tf.SparseTensorSpec):
            padded[name] = spec
            continue
        length = f"{name}_length"
        if length in specs:
            raise UserError(
                f"Feature {length!r} must be called something else: an export takes "
                f"the lengths of {name!r} under that name."
            )
        padded[name] = tf.TensorSpec([None, None], spec.dtype, name)
        padded[length] = tf.TensorSpec([None], tf.int64, length)
    return padded


def _without_padding(
    features: Mapping[str, tf.Tensor], specs: Mapping[str, FeatureSpec]
) -> dict[str, tf.Tensor | tf.SparseTensor]:
    found = {}
    for name, spec in specs.items():
        found[name] = values = features[name]
        if not isinstance(spec, tf.SparseTensorSpec):
            continue
        lengths, columns = features[f"{name}_length"], tf.shape(values, tf.int64)[1]
        check = tf.debugging.Assert(
            tf.reduce_all((lengths >= 0) & (lengths <= columns)),
            [f"{name}_length must be from 0 to the columns of {name}:", lengths],
        )
        with tf.control_dependencies([check]):
            real = tf.sequence_mask(lengths, columns)
        found[name] = tf.SparseTensor(
            tf.where(real), tf.boolean_mask(values, real), tf.shape(values, tf.int64)
        )
    return found
