"""Recorded requests that a version answers before it takes traffic."""

import posixpath
from collections.abc import Iterator

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import prediction_log_pb2

from serving.api.examples import (
    CLASSIFY,
    REGRESS,
    run_classify,
    run_regress,
    serialized_examples,
)
from serving.api.predict import DEFAULT_SIGNATURE, run_predict
from serving.errors import ServingError, invalid
from serving.memory_limits import MemoryLimits
from serving.models.saved_model import SavedModel
from serving.status_codes import Code

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
MOST_RECORDS = 1000


def warm_up(model: SavedModel, *, iterations: int, limits: MemoryLimits) -> int:
    """Runs the requests recorded with `model`; returns how many there are.

    Args:
        model: a loaded version, with a TFRecord of PredictionLog in its folder.
        iterations: times that each request is run; at least 1.
        limits: bounds on their memory, as for other requests.

    Raises:
        ServingError: a record cannot be read or answered, or there are too many; the
            version must not serve.
    """
    path = posixpath.join(model.path, WARMUP_FILE)
    if not tf.io.gfile.exists(path):
        return 0
    count = 0
    for log in _read(path):
        count += 1
        if count > MOST_RECORDS:
            raise invalid(
                f"Number of warmup records exceeds the maximum ({MOST_RECORDS}): {path}"
            )
        for _ in range(iterations):
            _replay(model, log, limits)
    return count


def _read(path: str) -> Iterator[prediction_log_pb2.PredictionLog]:
    try:
        for record in tf.compat.v1.io.tf_record_iterator(path):
            yield prediction_log_pb2.PredictionLog.FromString(record)
    except message.DecodeError as error:
        raise invalid(f"Failed to parse warmup record: {path}") from error
    except tf.errors.OpError as error:
        raise ServingError(
            Code.DATA_LOSS,
            f"Failed to read warmup records from {path}: {error.message}",
        ) from error


def _replay(model: SavedModel, log, limits: MemoryLimits) -> None:
    kind = log.WhichOneof("log_type")
    if kind is None:
        return
    if kind == "predict_log":
        run_predict(model, log.predict_log.request, limits)
    elif kind == "classify_log":
        request = log.classify_log.request
        _run_examples(model, request.model_spec, CLASSIFY, request.input, limits)
    elif kind == "regress_log":
        request = log.regress_log.request
        _run_examples(model, request.model_spec, REGRESS, request.input, limits)
    elif kind == "multi_inference_log":
        request = log.multi_inference_log.request
        for task in request.tasks:
            spec, method = task.model_spec, task.method_name
            _run_examples(model, spec, method, request.input, limits)
    else:
        raise ServingError(
            Code.UNIMPLEMENTED, f"Unsupported log_type for warmup: {kind}"
        )


def _run_examples(
    model: SavedModel, spec, method: str, given, limits: MemoryLimits
) -> None:
    signature = model.signature(spec.signature_name or DEFAULT_SIGNATURE)
    run = run_classify if method == CLASSIFY else run_regress
    with serialized_examples(given, limits) as serialized:
        run(model, signature, serialized)
