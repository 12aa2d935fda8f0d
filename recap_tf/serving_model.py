"""A trained model as a SavedModel that any TensorFlow process loads and scores with."""

import json
import posixpath
from collections.abc import Mapping

import tensorflow as tf

from recap_tf import input as records_input
from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.input import FeatureSpec, Records
from recap_tf.model import RankingModel
from recap_tf.schema import VARIABLE, read_schema

TASKS_FILE = "ranker.json"
"""In assets.extra of a version: tasks, calibration ratios, step, features."""


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
    one of variable length as empty.
    The steps of `records.preprocess` that belong to serving are inside. The folder
    appears complete or not at all.

    Args:
        model: with its trained weights.
        records: what the model was trained on; says what the features look like.
        folder: of all versions.
        step: of the weights, for the record.
        version: its number; none for one more than the highest there.

    Raises:
        UserError: that version exists.
    """
    number = _next_version(folder) if version is None else version
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
        return {
            "tasks": tf.constant(model.tasks),
            "calibration_ratios": tf.constant(ratios, tf.float32),
        }

    signatures = {
        "serving_default": tf.function(
            score_padded, input_signature=[_padded(raw_specs)]
        ),
        "serve_examples": tf.function(
            score_examples,
            input_signature=[tf.TensorSpec([None], tf.string, "examples")],
        ),
        "tasks": tf.function(tasks, input_signature=[]),
    }
    with files.new_folder(path) as aside:
        tf.saved_model.save(served, aside, signatures)
        described = {
            "step": step,
            "tasks": model.tasks,
            "calibration_ratios": model.calibration_ratios,
            "features": {n: one.shape[1] or VARIABLE for n, one in raw_specs.items()},
        }
        extra = posixpath.join(aside, "assets.extra", TASKS_FILE)
        files.write_text(extra, json.dumps(described, indent=1) + "\n")
    return path


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


def _next_version(folder: str) -> int:
    if not tf.io.gfile.isdir(folder):
        return 1
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
