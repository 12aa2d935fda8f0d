"""Classify, Regress and MultiInference: tf.Examples in, classes or values out."""

import contextlib
from collections.abc import Iterator, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    regression_pb2,
)

from serving import tensors
from serving.api.predict import DEFAULT_SIGNATURE, answer_spec
from serving.errors import ServingError, invalid
from serving.memory_limits import MemoryLimits
from serving.models.catalog import Catalog
from serving.models.saved_model import SavedModel
from serving.models.signatures import Signature
from serving.status_codes import Code

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"
_CLASSES, _SCORES, _VALUES = "classes", "scores", "outputs"


def classify(
    catalog: Catalog,
    request: classification_pb2.ClassificationRequest,
    limits: MemoryLimits,
    *,
    check_method: bool = False,
) -> classification_pb2.ClassificationResponse:
    """Answers a ClassificationRequest; raises ServingError as TF Serving does.

    Args:
        check_method: refuse signatures of another method. `tf.saved_model.save` gives
            all of them Predict's.
    """
    _check_spec(request)
    response = classification_pb2.ClassificationResponse()
    with catalog.using(request.model_spec) as (model, version):
        signature = _signature(model, request.model_spec, CLASSIFY, check_method)
        with serialized_examples(request.input, limits) as serialized:
            response.result.CopyFrom(run_classify(model, signature, serialized))
    answer_spec(response.model_spec, request.model_spec, version, signature.key)
    return response


def regress(
    catalog: Catalog,
    request: regression_pb2.RegressionRequest,
    limits: MemoryLimits,
    *,
    check_method: bool = False,
) -> regression_pb2.RegressionResponse:
    """Answers a RegressionRequest; see `classify`."""
    _check_spec(request)
    response = regression_pb2.RegressionResponse()
    with catalog.using(request.model_spec) as (model, version):
        signature = _signature(model, request.model_spec, REGRESS, check_method)
        with serialized_examples(request.input, limits) as serialized:
            response.result.CopyFrom(run_regress(model, signature, serialized))
    answer_spec(response.model_spec, request.model_spec, version, signature.key)
    return response


def multi_inference(
    catalog: Catalog,
    request: inference_pb2.MultiInferenceRequest,
    limits: MemoryLimits,
    *,
    check_method: bool = False,
) -> inference_pb2.MultiInferenceResponse:
    """Answers a MultiInferenceRequest: several signatures on the same examples."""
    if not request.tasks:
        raise invalid("MultiInferenceRequest has no tasks.")
    names = {task.model_spec.name for task in request.tasks}
    if len(names) > 1:
        raise invalid(
            "All ModelSpecs in a MultiInferenceRequest must access the same model name."
        )
    seen = set()
    for task in request.tasks:
        if task.method_name not in (CLASSIFY, REGRESS):
            raise ServingError(
                Code.UNIMPLEMENTED,
                f"Unsupported signature method_name: {task.method_name}",
            )
        key = task.model_spec.signature_name or DEFAULT_SIGNATURE
        if key in seen:
            raise invalid(f"Duplicate evaluation of signature: {key}")
        seen.add(key)
    _check_spec(request.tasks[0])
    response = inference_pb2.MultiInferenceResponse()
    with (
        catalog.using(request.tasks[0].model_spec) as (model, version),
        serialized_examples(request.input, limits) as serialized,
    ):
        for task in request.tasks:
            method = task.method_name
            signature = _signature(model, task.model_spec, method, check_method)
            result = response.results.add()
            answer_spec(result.model_spec, task.model_spec, version, signature.key)
            if method == CLASSIFY:
                classes = run_classify(model, signature, serialized)
                result.classification_result.CopyFrom(classes)
            else:
                values = run_regress(model, signature, serialized)
                result.regression_result.CopyFrom(values)
    return response


def count(given: input_pb2.Input) -> int:
    """How many examples there are."""
    return len(_listed(given))


def _listed(given: input_pb2.Input) -> Sequence[tf.train.Example]:
    kind = given.WhichOneof("kind")
    return getattr(given, kind).examples if kind else ()


@contextlib.contextmanager
def serialized_examples(
    given: input_pb2.Input, limits: MemoryLimits
) -> Iterator[np.ndarray]:
    """The examples as a model takes them, (batch,) bytes.

    A context is put in front of each example: the parsed two are merged.

    Raises:
        ServingError: there are none, or they take too much memory.
    """
    listed, context = _listed(given), b""
    if given.HasField("example_list_with_context"):
        context = given.example_list_with_context.context.SerializeToString()
    if not listed:
        raise invalid("Input is empty.")
    examples = [example.SerializeToString() for example in listed]
    amount = sum(map(len, examples)) + len(examples) * (
        len(context) + tensors.STRING_BYTES
    )
    limits.check_tensor("examples", [len(examples)], amount)
    with limits.memory(amount):
        array = np.empty(len(examples), object)
        array[:] = [context + e for e in examples] if context else examples
        yield array


def run_classify(
    model: SavedModel, signature: Signature, serialized: np.ndarray
) -> classification_pb2.ClassificationResult:
    """The classes and scores that the model gives each example."""
    outputs = [name for name in (_CLASSES, _SCORES) if name in signature.outputs]
    if not outputs:
        raise invalid(
            f"Expected classification signature outputs to contain at least one of "
            f'"{_CLASSES}" or "{_SCORES}". Signature was: {signature.key}'
        )
    arrays = _run(model, signature, CLASSIFY, serialized, outputs)
    for name, array in arrays.items():
        if array.ndim != 2 or len(array) != len(serialized):
            raise invalid(
                f"Tensor output {name} must be [batch size, classes]; has shape "
                f"{list(array.shape)} for {len(serialized)} examples"
            )
    classes, scores = arrays.get(_CLASSES), arrays.get(_SCORES)
    if classes is not None:
        _check_dtype("classes", classes, tf.string)
    if scores is not None:
        _check_dtype("scores", scores, tf.float32)
    if classes is not None and scores is not None and classes.shape != scores.shape:
        raise invalid(
            f"Tensor class and score shapes do not match: {list(classes.shape)} vs. "
            f"{list(scores.shape)}"
        )
    result = classification_pb2.ClassificationResult()
    width = (classes if scores is None else scores).shape[1]
    for i in range(len(serialized)):
        row = result.classifications.add()
        for j in range(width):
            added = row.classes.add()
            if classes is not None:
                # A label is text; strings of a model may be any bytes.
                added.label = classes[i, j].decode("utf-8", "replace")
            if scores is not None:
                added.score = scores[i, j]
    return result


def run_regress(
    model: SavedModel, signature: Signature, serialized: np.ndarray
) -> regression_pb2.RegressionResult:
    """The value that the model gives each example."""
    if _VALUES not in signature.outputs:
        raise invalid(
            f'Expected regression signature outputs to contain "{_VALUES}". '
            f"Signature was: {signature.key}"
        )
    values = _run(model, signature, REGRESS, serialized, [_VALUES])[_VALUES]
    _check_dtype("output", values, tf.float32)
    batch = len(serialized)
    if values.shape not in ((batch,), (batch, 1)):
        raise invalid(
            "Expected output Tensor shape to be either [batch_size] or [batch_size, "
            f"1] for {batch} examples; got {list(values.shape)}"
        )
    result = regression_pb2.RegressionResult()
    for value in values.reshape(-1).tolist():
        result.regressions.add(value=value)
    return result


def _run(
    model, signature: Signature, method: str, serialized, outputs
) -> dict[str, np.ndarray]:
    if len(signature.inputs) != 1:
        raise invalid(
            f"Expected one input Tensor. Signature {signature.key} has "
            f"{len(signature.inputs)}."
        )
    inputs = {next(iter(signature.inputs)): serialized}
    return model.run(signature, inputs, outputs, method=method)


def _check_dtype(what: str, array: np.ndarray, wanted: tf.DType) -> None:
    received, expected = (
        tensors.dtype_name(dtype.as_datatype_enum)
        for dtype in (tensors.dtype_of_array(array), wanted)
    )
    if received != expected:
        raise invalid(f"Expected {what} Tensor of {expected}. Got: {received}")


def _signature(model: SavedModel, spec, method: str, check_method: bool) -> Signature:
    key = spec.signature_name or DEFAULT_SIGNATURE
    if key not in model.signatures:
        raise invalid(f"No signature was found with the name: {key}")
    signature = model.signatures[key]
    if check_method and signature.method != method:
        kind = "classification" if method == CLASSIFY else "regression"
        raise invalid(
            f"Expected {kind} signature method_name to be {method}. "
            f"Was: {signature.method}"
        )
    return signature


def _check_spec(request) -> None:
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
