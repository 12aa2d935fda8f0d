"""A trained model as a SavedModel that any TensorFlow process loads and scores with."""

import json
import posixpath
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.model_versions import next_version
from recap_tf.data.record_batches import Records
from recap_tf.data.schema import VARIABLE
from recap_tf.exporting.signatures import (
    ServedRanker,
    name_methods,
    rank_inputs,
    signature_names,
)
from recap_tf.exporting.warmup_requests import (
    WARMUP_FILE,
    check_sizes,
    write_warmup_requests,
)
from recap_tf.model.scorer import CalibratedRanker, Scorer
from recap_tf.settings import ExportSettings, Ranker

TASKS_FILE = "ranker.json"
"""In assets.extra of a version: what is in it, for people and clients; see below."""


def export_model(
    model: Scorer,
    records: Records,
    folder: str,
    step: int,
    version: int | None,
    settings: ExportSettings,
    variant: Mapping[str, Any] | None = None,
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

    One viewer's candidates are a request of

        rank             the features of `settings.viewer_features`, (1, length), and
                         "<name>_viewer", (1, columns), of `settings.viewer_columns`;
                         all others (candidates, ...); "task_weights", (1, tasks)

    -> "score" (candidates,) float32, "calibrated_probabilities" (candidates, tasks)
    float32, and "order" (candidates,) int32, the candidates from the highest score to
    the lowest, equal ones as they came. The graph repeats the viewer's rows, so the
    scores are, bit for bit, those of `score` for as many full rows. "task_weights" may
    be left out if the model has score weights. `rank` is a batch already, and its
    inputs differ in their first dimension: TF Serving with --enable_batching refuses
    it ("equal 0th-dimension size", also as a warm-up request, with which the version
    then does not load), so serve it without; our server runs it past the batching.

    For TF Serving's Classify, Regress and MultiInference there are

        classify         "inputs", (batch,) serialized tf.Examples -> "classes", the
                         tasks' names, "scores", their calibrated probabilities
        regress          the same -> "outputs", (batch,), the score; that of the only
                         task is its calibrated probability, if there are no weights

    Several tasks without score weights have no `regress`.

    Args:
        model: with its trained weights, and with calibrators if it is to have some.
        records: what the model was trained on; says what the features look like, and
            has the rows of the warm-up requests.
        folder: where all versions are.
        step: of the weights, for the record.
        version: its number; none for one more than the highest there.
        settings: of the requests.
        variant: what to write down of how `model` differs from the trained one.

    Raises:
        UserError: that version exists, or the settings do not fit the features.
    """
    number = next_version(folder) if version is None else version
    path = posixpath.join(folder, str(number))
    if tf.io.gfile.exists(path):
        raise UserError(f"{path} exists; versions are never overwritten.")
    scorer, variables_of_calibrators = _calibrators_as_variables(model)
    ranker = ServedRanker(scorer, records, settings)
    signatures = ranker.signatures()
    check_sizes(settings.warmup_sizes, signatures)
    served = tf.Module()
    # The variables alone: with the Keras model, its classes' names would be saved too.
    served.variables_of_model = model.variables
    served.variables_of_calibrators = variables_of_calibrators
    if model.large_embeddings is not None:
        served.vocabularies = model.large_embeddings.lookup_tables
    described = {
        "step": step,
        "tasks": model.tasks,
        "calibration_ratios": model.calibration_ratios,
        "calibrators": model.calibrators and model.calibrators.as_json(),
        "score_weights": model.score_weights,
        "features": {
            name: spec.shape[1] or VARIABLE for name, spec in ranker.raw_specs.items()
        },
        "viewer_features": list(settings.viewer_features),
        "viewer_columns": dict(settings.viewer_columns),
        "variant": variant,
    }
    with files.new_folder(path) as aside:
        tf.saved_model.save(served, aside, signatures)
        name_methods(aside)
        extra = posixpath.join(aside, "assets.extra", TASKS_FILE)
        files.write_text(extra, json.dumps(described, indent=1) + "\n")
        if settings.warmup_sizes:
            write_warmup_requests(
                posixpath.join(aside, WARMUP_FILE),
                posixpath.basename(folder.rstrip("/")),
                settings.warmup_sizes,
                records,
                ranker.request,
            )
    return path


def _calibrators_as_variables(model: Scorer) -> tuple[Scorer, list[tf.Variable]]:
    """The model with its calibrators' numbers in variables, and these."""
    if not isinstance(model, CalibratedRanker):  # A frozen one has them inside.
        return model, []
    calibrators, variables = model.calibrators.for_serving()
    return CalibratedRanker(model.model, calibrators), variables


def check_settings(settings: ExportSettings, ranker: Ranker) -> None:
    """Says before a training, not after it, that its model could not be exported.

    Raises:
        UserError: see `export_model`.
    """
    rank_inputs(ranker.train_data, settings)
    names = signature_names(ranker.tasks, ranker.score_weights)
    check_sizes(settings.warmup_sizes, names)
