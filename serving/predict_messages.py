"""The messages of Predict: made of numpy arrays, and read back into them."""

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, types_pb2
from tensorflow.core.protobuf import meta_graph_pb2
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving import tensors, wire


@dataclasses.dataclass(frozen=True)
class Prediction:
    """What a model answered.

    Args:
        outputs: alias -> array (rows, ...); strings as bytes objects.
        version: the model's version that answered.
        signature: the key of the signature that answered.
    """

    outputs: Mapping[str, np.ndarray]
    version: int
    signature: str


@dataclasses.dataclass(frozen=True)
class SignatureSpec:
    """What a served model can be asked: alias -> dtype and shape, None where any."""

    method: str
    inputs: Mapping[str, tf.TensorSpec]
    outputs: Mapping[str, tf.TensorSpec]


def predict_request(
    model: str,
    inputs: Mapping[str, Any],
    *,
    signature: str = "",
    version: int | None = None,
    label: str | None = None,
    outputs: Sequence[str] = (),
) -> predict_pb2.PredictRequest:
    """The message that `Client.predict` sends; values in `tensor_content`."""
    request = predict_pb2.PredictRequest(
        model_spec=model_spec(model, version=version, label=label),
        output_filter=outputs,
    )
    request.model_spec.signature_name = signature
    for alias, value in inputs.items():
        array = _array(value)
        with _numbers_expected(alias, array):
            tensors.fill_proto(request.inputs[alias], array, as_content=True)
    return request


def serialized_request(model: str, inputs: Mapping[str, Any], **more: Any) -> bytes:
    """`predict_request(...)`, serialized; large inputs are copied once."""
    request, contents = predict_request(model, {}, **more), {}
    for alias, value in inputs.items():
        array = _array(value)
        with _numbers_expected(alias, array):
            content = tensors.fill_apart(request.inputs[alias], array)
        if content is not None:
            contents[alias] = content
    return wire.join_contents(request, contents)


@contextlib.contextmanager
def _numbers_expected(alias: str, array: np.ndarray) -> Iterator[None]:
    try:
        yield
    except TypeError as error:
        raise ValueError(
            f"Input {alias!r} must be numbers, booleans or strings. Received: "
            f"{array.dtype} array"
        ) from error


def _array(value: Any) -> np.ndarray:
    """`value` as an array; strings as objects, as numpy's own lose their last zeros."""
    array = np.asarray(value)
    if array.dtype.kind in "SU" and not isinstance(value, np.ndarray):
        return np.asarray(value, dtype=object)
    return array


def read_prediction(response: predict_pb2.PredictResponse) -> Prediction:
    """The arrays of a response, and the version and signature that it is of."""
    return Prediction(
        {alias: read_tensor(proto) for alias, proto in response.outputs.items()},
        response.model_spec.version.value,
        response.model_spec.signature_name,
    )


def read_tensor(proto: tensor_pb2.TensorProto) -> np.ndarray:
    """The array in `proto`; strings as bytes objects."""
    if proto.dtype == types_pb2.DT_STRING and proto.tensor_content:
        # TF Serving sends strings like this if told to; make_ndarray cannot read it.
        return np.asarray(
            tf.io.parse_tensor(proto.SerializeToString(), tf.string).numpy(), object
        )
    return tf.make_ndarray(proto)


def model_spec(
    model: str, *, version: int | None = None, label: str | None = None
) -> model_pb2.ModelSpec:
    """The message that names a model, and its version by number or by label."""
    if version is not None and label is not None:
        raise ValueError(
            f"version and label: give one. Received: {version!r} and {label!r}"
        )
    spec = model_pb2.ModelSpec(name=model)
    if version is not None:
        spec.version.value = version
    if label is not None:
        spec.version_label = label
    return spec


def tensor_specs(
    infos: Mapping[str, meta_graph_pb2.TensorInfo],
) -> dict[str, tf.TensorSpec]:
    """Alias -> dtype and shape, None where any, of a signature's tensors."""
    return {
        alias: tf.TensorSpec(
            tensors.shape_of(info.tensor_shape), tf.dtypes.as_dtype(info.dtype), alias
        )
        for alias, info in infos.items()
    }
