"""TensorProto <-> numpy, with TF Serving's errors."""

import dataclasses
import math

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving.errors import invalid

_FIELDS = {
    tf.float32: "float_val",
    tf.float64: "double_val",
    tf.int32: "int_val",
    tf.int16: "int_val",
    tf.int8: "int_val",
    tf.uint8: "int_val",
    tf.uint16: "int_val",
    tf.uint32: "uint32_val",
    tf.uint64: "uint64_val",
    tf.int64: "int64_val",
    tf.bool: "bool_val",
    tf.string: "string_val",
    tf.float16: "half_val",
    tf.bfloat16: "half_val",
    tf.complex64: "scomplex_val",
    tf.complex128: "dcomplex_val",
}
_BY_NUMBER = {dtype.as_datatype_enum: dtype for dtype in _FIELDS}
_OF_NUMPY = {np.dtype(dtype.as_numpy_dtype): dtype for dtype in _FIELDS}
_SIZES = {dtype: dtype.size for dtype in _FIELDS if dtype != tf.string}
_LITTLE_ENDIAN = {
    dtype: np.dtype(dtype.as_numpy_dtype).newbyteorder("<") for dtype in _SIZES
}
_BITS_IN_HALF_VAL = (tf.float16, tf.bfloat16)
MOST_DIMENSIONS = 64
# A pointer here, a string's head in TensorFlow.
STRING_BYTES = 32


def dtype_of(number: int) -> tf.DType | None:
    """The dtype of that enum value, if a request can hold it."""
    return _BY_NUMBER.get(number)


def dtype_name(number: int) -> str:
    """DT_FLOAT and so on."""
    try:
        return types_pb2.DataType.Name(number)
    except ValueError:
        return f"data type {number}"


def shape_of(shape: tensor_shape_pb2.TensorShapeProto) -> tuple[int | None, ...] | None:
    """Sizes, None where one is not known; None for an unknown rank."""
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def show_shape(shape: tuple[int | None, ...] | None) -> str:
    """[?,3]; <unknown> for an unknown rank."""
    if shape is None:
        return "<unknown>"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


@dataclasses.dataclass(frozen=True, slots=True)
class Declared:
    """What a TensorProto says of its tensor, before its values are read.

    Args:
        dtype: of the values.
        shape: all sizes known.
        count: values.
        amount: bytes that the array takes in memory. They may be many more than the
            message has: one value stands for any number.
    """

    dtype: tf.DType
    shape: tuple[int, ...]
    count: int
    amount: int


def declared(alias: str, proto: tensor_pb2.TensorProto) -> Declared:
    """Raises INVALID_ARGUMENT `tensor parsing error: ALIAS` if it is no tensor."""
    dtype, sizes = _BY_NUMBER.get(proto.dtype), proto.tensor_shape
    shape = tuple([dim.size for dim in sizes.dim])
    fits = dtype is not None and len(shape) <= MOST_DIMENSIONS
    if not fits or sizes.unknown_rank or (shape and min(shape) < 0):
        raise invalid(f"tensor parsing error: {alias}")
    count = math.prod(shape)
    if dtype is not tf.string:
        return Declared(dtype, shape, count, count * _SIZES[dtype])
    lengths = [len(one) for one in proto.string_val]
    repeated = max(0, count - len(lengths)) * (lengths[-1] if lengths else 0)
    amount = sum(lengths) + repeated + len(proto.tensor_content)
    return Declared(dtype, shape, count, count * STRING_BYTES + amount)


def dtype_of_array(array: np.ndarray) -> tf.DType:
    """The dtype of a tensor that holds `array`; strings are objects."""
    return _OF_NUMPY.get(array.dtype) or tf.dtypes.as_dtype(array.dtype)


def from_proto(
    alias: str, proto: tensor_pb2.TensorProto, head: Declared | None = None
) -> np.ndarray:
    """The array in `proto`; strings as bytes objects.

    Values may stand in the typed field, where the last one is repeated up to the end
    of the shape, or in `tensor_content`.

    Args:
        alias: the input's name in the signature, for messages.
        proto: the tensor.
        head: what it declares, if that has been read.

    Raises:
        ServingError: INVALID_ARGUMENT `tensor parsing error: ALIAS`.
    """
    head = head or declared(alias, proto)
    try:
        # Each look at it copies it.
        content = proto.tensor_content
        if content:
            return _from_content(content, head)
        return _from_values(getattr(proto, _FIELDS[head.dtype]), head)
    except (ValueError, OverflowError, TypeError) as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def _from_content(content: bytes, head: Declared) -> np.ndarray:
    if head.dtype is tf.string:
        return np.array(_strings(content, head.count), object).reshape(head.shape)
    if len(content) != head.amount:
        raise ValueError("tensor_content has another length than dtype and shape say")
    return np.frombuffer(content, _LITTLE_ENDIAN[head.dtype]).reshape(head.shape)


def _strings(content: bytes, count: int) -> list[bytes]:
    """`tensor_content` of strings: their lengths as varints, then their bytes."""
    if count > len(content):
        raise ValueError("fewer lengths than strings")
    lengths, at = [], 0
    for _ in range(count):
        length = shift = 0
        while True:
            byte = content[at : at + 1]
            if not byte or shift > 56:
                raise ValueError("a length is cut off")
            at += 1
            length |= (byte[0] & 0x7F) << shift
            shift += 7
            if byte[0] < 0x80:
                break
        lengths.append(length)
    if at + sum(lengths) != len(content):
        raise ValueError("the strings' lengths do not add up")
    found = []
    for length in lengths:
        found.append(content[at : at + length])
        at += length
    return found


def _from_values(values, head: Declared) -> np.ndarray:
    dtype, shape, count = head.dtype, head.shape, head.count
    if dtype == tf.string:
        listed = list(values[:count])
        listed += [listed[-1] if listed else b""] * (count - len(listed))
        array = np.empty(count, object)
        array[:] = listed
        return array.reshape(shape)
    if dtype in (tf.complex64, tf.complex128):
        pairs = np.asarray(values, np.float64)
        listed = (pairs[::2] + 1j * pairs[1::2]).astype(dtype.as_numpy_dtype)
    elif dtype in _BITS_IN_HALF_VAL:
        bits = np.asarray(values, np.uint16)
        listed = bits.view(dtype.as_numpy_dtype)
    else:
        listed = np.asarray(values, dtype.as_numpy_dtype)
    if len(listed) >= count:
        return listed[:count].reshape(shape)
    last = listed[-1] if len(listed) else np.zeros([], dtype.as_numpy_dtype)
    array = np.full(count, last, dtype.as_numpy_dtype)
    array[: len(listed)] = listed
    return array.reshape(shape)


def to_proto(array: np.ndarray, *, as_content: bool) -> tensor_pb2.TensorProto:
    """`array` with its values in the typed field, or in `tensor_content`."""
    array = np.asarray(array)
    is_text = array.dtype.kind in "OSU"
    dtype = tf.string if is_text else dtype_of_array(array)
    proto = tensor_pb2.TensorProto(dtype=dtype.as_datatype_enum)
    for size in array.shape:
        proto.tensor_shape.dim.add(size=size)
    if as_content and not is_text:
        proto.tensor_content = np.ascontiguousarray(array).tobytes()
        return proto
    flat = array.reshape(-1)
    if is_text:
        flat = [tf.compat.as_bytes(value) for value in flat.tolist()]
    elif dtype in (tf.complex64, tf.complex128):
        flat = np.stack([flat.real, flat.imag], axis=-1).reshape(-1).tolist()
    elif dtype in _BITS_IN_HALF_VAL:
        flat = flat.view(np.uint16).tolist()
    else:
        flat = flat.tolist()
    getattr(proto, _FIELDS[dtype]).extend(flat)
    return proto
