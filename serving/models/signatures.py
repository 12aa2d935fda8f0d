"""What a model can be asked to compute, and which arrays it takes."""

import dataclasses
import itertools
import math
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2

from serving import tensors
from serving.errors import invalid


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An input or output of a signature.

    Args:
        tensor: the name in the graph, as `node:0`.
        shape: sizes, None where any will do; None for an unknown rank.
    """

    tensor: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a model can be asked to compute.

    Args:
        key: the name that requests give.
        method: "tensorflow/serving/predict", .../classify or .../regress.
        inputs, outputs: alias -> endpoint.
        defaults: alias -> value of inputs that a request may leave out.
    """

    key: str
    method: str
    inputs: Mapping[str, Endpoint]
    outputs: Mapping[str, Endpoint]
    defaults: Mapping[str, np.ndarray]


def check_dtype(alias: str, array: np.ndarray, endpoint: Endpoint) -> None:
    """Raises INVALID_ARGUMENT unless the dtype is what the signature says."""
    dtype = tensors.dtype_of_array(array)
    if dtype is not endpoint.dtype and dtype != endpoint.dtype:
        raise invalid(
            f"input {alias} has the wrong dtype: expected "
            f"{tensors.dtype_name(endpoint.dtype.as_datatype_enum)}, received "
            f"{tensors.dtype_name(dtype.as_datatype_enum)}"
        )


def has_declared_shape(array: np.ndarray, endpoint: Endpoint) -> bool:
    """Whether the shape is what the signature says.

    That one is documentation: graphs may take others. [3] for [?,1], say.
    """
    shape = endpoint.shape
    if shape is None:
        return True
    if len(shape) != array.ndim:
        return False
    for wanted, size in zip(shape, array.shape, strict=True):
        if wanted is not None and wanted != size:
            return False
    return True


def wrong_shapes(
    signature: Signature, names: Sequence[str], arrays: Sequence[np.ndarray]
) -> str:
    """What a client gets to know of shapes other than the signature's; "" if none."""
    return "; ".join(
        f"input {name} has the wrong shape: expected "
        f"{tensors.show_shape(signature.inputs[name].shape)}, received "
        f"{tensors.show_shape(array.shape)}"
        for name, array in zip(names, arrays, strict=True)
        if not has_declared_shape(array, signature.inputs[name])
    )


def check_rows(names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    """Raises INVALID_ARGUMENT unless all have rows, and as many."""
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 0:
            raise invalid(
                f"Batching input tensors must have at least one dimension. Received: "
                f"input {name} of shape []"
            )
    rows = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(rows.values())) > 1:
        raise invalid(
            "Batching input tensors supplied in a given op invocation must have equal "
            f"0th-dimension size. Received: {rows}"
        )


def read_signature(key: str, definition: meta_graph_pb2.SignatureDef) -> Signature:
    """The signature `key` as its file defines it."""
    return Signature(
        key,
        definition.method_name,
        {alias: _endpoint(info) for alias, info in definition.inputs.items()},
        {alias: _endpoint(info) for alias, info in definition.outputs.items()},
        {
            alias: tf.make_ndarray(value)
            for alias, value in getattr(definition, "defaults", {}).items()
        },
    )


def _endpoint(info: meta_graph_pb2.TensorInfo) -> Endpoint:
    return Endpoint(
        info.name,
        tf.dtypes.as_dtype(info.dtype),
        tensors.shape_of(info.tensor_shape),
    )


def is_batchable(signature: Signature) -> bool:
    """Whether rows of its inputs are examples, and so are rows of its outputs."""
    ends = itertools.chain(signature.inputs.values(), signature.outputs.values())
    return bool(signature.inputs) and all(
        end.shape is None or (len(end.shape) > 0 and end.shape[0] is None)
        for end in ends
    )


def padded(array: np.ndarray, endpoint: Endpoint) -> np.ndarray:
    """`array` with its free inner dimensions padded to the next power of two.

    Padding to powers of two, not to the largest request of the batch: so that a few
    shapes recur, each with a queue of its own.
    """
    if endpoint.shape is None or array.size == 0:
        return array
    sizes = [
        size if wanted is not None or i == 0 else 1 << math.ceil(math.log2(size))
        for i, (size, wanted) in enumerate(
            zip(array.shape, endpoint.shape, strict=True)
        )
    ]
    widths = [(0, new - size) for new, size in zip(sizes, array.shape, strict=True)]
    if not any(width for _, width in widths):
        return array
    # As TF Serving does: the tensor's first element fills the padding.
    return np.pad(array, widths, constant_values=array.flat[0])
