"""Tensors: TensorProto messages to numpy arrays and back, with TF Serving's errors."""

import math
from typing import NamedTuple

import numpy as np
import tensorflow as tf
from tensorflow.core.framework import tensor_pb2, tensor_shape_pb2, types_pb2

from serving import wire
from serving.errors import invalid


class _Kind(NamedTuple):
    """What there is to know of values of one dtype.

    `tf.DType` compares and hashes in Python: on a request's way none is looked up.

    Args:
        number: the value of the dtype's enum in protos.
        field: the field of a TensorProto that lists such values.
        size: bytes of a value; 0 for strings.
        stored: the dtype of the bytes in `tensor_content`, little-endian.
    """

    dtype: tf.DType
    number: int
    field: str
    size: int
    stored: np.dtype


def _kind(dtype: tf.DType, field: str) -> _Kind:
    numpy = np.dtype(dtype.as_numpy_dtype)
    if dtype == tf.string:
        return _Kind(dtype, dtype.as_datatype_enum, field, 0, numpy)
    stored = numpy.newbyteorder("<")
    return _Kind(dtype, dtype.as_datatype_enum, field, dtype.size, stored)


_KINDS = (
    _kind(tf.float32, "float_val"),
    _kind(tf.float64, "double_val"),
    _kind(tf.int32, "int_val"),
    _kind(tf.int16, "int_val"),
    _kind(tf.int8, "int_val"),
    _kind(tf.uint8, "int_val"),
    _kind(tf.uint16, "int_val"),
    _kind(tf.uint32, "uint32_val"),
    _kind(tf.uint64, "uint64_val"),
    _kind(tf.int64, "int64_val"),
    _kind(tf.bool, "bool_val"),
    _kind(tf.string, "string_val"),
    _kind(tf.float16, "half_val"),
    _kind(tf.bfloat16, "half_val"),
    _kind(tf.complex64, "scomplex_val"),
    _kind(tf.complex128, "dcomplex_val"),
)
_BY_NUMBER = {kind.number: kind for kind in _KINDS}
_OF_NUMPY = {np.dtype(kind.dtype.as_numpy_dtype): kind for kind in _KINDS}
_TEXT = _BY_NUMBER[tf.string.as_datatype_enum]
MOST_DIMENSIONS = 64
# A pointer here, a string's head in TensorFlow.
STRING_BYTES = 32


def dtype_name(number: int) -> str:
    """The name of a dtype's enum: DT_FLOAT and so on."""
    try:
        return types_pb2.DataType.Name(number)
    except ValueError:
        return f"data type {number}"


def shape_of(shape: tensor_shape_pb2.TensorShapeProto) -> tuple[int | None, ...] | None:
    """The sizes of a shape, None where not known; None for an unknown rank."""
    if shape.unknown_rank:
        return None
    return tuple(None if dim.size < 0 else dim.size for dim in shape.dim)


def show_shape(shape: tuple[int | None, ...] | None) -> str:
    """The shape as messages show it: [?,3]; <unknown> for an unknown rank."""
    if shape is None:
        return "<unknown>"
    return "[" + ",".join("?" if size is None else str(size) for size in shape) + "]"


class Declared(NamedTuple):
    """What a TensorProto says of its tensor, before its values are read.

    Args:
        shape: sizes, all of them known.
        count: how many values the shape has.
        amount: bytes that the array takes in memory. They may be many more than the
            message has: one value stands for any number.
    """

    kind: _Kind
    shape: tuple[int, ...]
    count: int
    amount: int


def declared(alias: str, proto: tensor_pb2.TensorProto) -> Declared:
    """Raises INVALID_ARGUMENT `tensor parsing error: ALIAS` if it is no tensor."""
    kind, sizes = _BY_NUMBER.get(proto.dtype), proto.tensor_shape
    shape = tuple([dim.size for dim in sizes.dim])
    fits = kind is not None and len(shape) <= MOST_DIMENSIONS
    if not fits or sizes.unknown_rank or (shape and min(shape) < 0):
        raise invalid(f"tensor parsing error: {alias}")
    count = math.prod(shape)
    if kind is not _TEXT:
        return Declared(kind, shape, count, count * kind.size)
    lengths = [len(value) for value in proto.string_val]
    repeated = max(0, count - len(lengths)) * (lengths[-1] if lengths else 0)
    amount = sum(lengths) + repeated + len(proto.tensor_content)
    return Declared(kind, shape, count, count * STRING_BYTES + amount)


def dtype_of_array(array: np.ndarray) -> tf.DType:
    """The dtype of a tensor that holds `array`; strings are objects."""
    kind = _kind_of(array.dtype)
    return kind.dtype if kind else tf.dtypes.as_dtype(array.dtype)


def _kind_of(dtype: np.dtype) -> _Kind | None:
    return _OF_NUMPY.get(dtype) or _OF_NUMPY.get(dtype.newbyteorder("="))


def from_proto(
    alias: str,
    proto: tensor_pb2.TensorProto,
    head: Declared | None = None,
    content: memoryview | None = None,
) -> np.ndarray:
    """The array in `proto`; strings as bytes objects.

    Values may stand in the typed field, where the last one is repeated up to the end
    of the shape, or in `tensor_content`.

    Args:
        alias: the input's name in the signature, for messages.
        head: what it declares, if that has been read.
        content: its `tensor_content`, if that is not in `proto`; not of strings.

    Raises:
        ServingError: INVALID_ARGUMENT `tensor parsing error: ALIAS`.
    """
    head = head or declared(alias, proto)
    try:
        if content is not None:
            _check_length(content, head)
            return wire.aligned(content, head.kind.stored).reshape(head.shape)
        # Each look at it copies it.
        content = proto.tensor_content
        if content:
            return _from_content(content, head)
        return _from_values(getattr(proto, head.kind.field), head)
    except (ValueError, OverflowError, TypeError) as error:
        raise invalid(f"tensor parsing error: {alias}") from error


def _from_content(content: bytes, head: Declared) -> np.ndarray:
    if head.kind is _TEXT:
        return np.array(_strings(content, head.count), object).reshape(head.shape)
    _check_length(content, head)
    return np.frombuffer(content, head.kind.stored).reshape(head.shape)


def _check_length(content: bytes | memoryview, head: Declared) -> None:
    if len(content) != head.amount:
        raise ValueError("tensor_content has another length than dtype and shape say")


def _strings(content: bytes, count: int) -> list[bytes]:
    """Reads the `tensor_content` of strings: lengths as varints, then all bytes."""
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
    strings = []
    for length in lengths:
        strings.append(content[at : at + length])
        at += length
    return strings


def _from_values(values, head: Declared) -> np.ndarray:
    kind, shape, count = head.kind, head.shape, head.count
    if kind is _TEXT:
        listed = list(values[:count])
        listed += [listed[-1] if listed else b""] * (count - len(listed))
        array = np.empty(count, object)
        array[:] = listed
        return array.reshape(shape)
    numpy = kind.dtype.as_numpy_dtype
    if kind.field in ("scomplex_val", "dcomplex_val"):
        pairs = np.asarray(values, np.float64)
        listed = (pairs[::2] + 1j * pairs[1::2]).astype(numpy)
    elif kind.field == "half_val":
        listed = np.asarray(values, np.uint16).view(numpy)
    else:
        listed = np.asarray(values, numpy)
    if len(listed) >= count:
        return listed[:count].reshape(shape)
    last = listed[-1] if len(listed) else np.zeros([], numpy)
    array = np.full(count, last, numpy)
    array[: len(listed)] = listed
    return array.reshape(shape)


def fill_proto(
    proto: tensor_pb2.TensorProto, array: np.ndarray, *, as_content: bool
) -> None:
    """Puts `array` into an empty `proto`: in the typed field, or in `tensor_content`.

    Raises:
        TypeError: no tensor holds such values.
    """
    kind = _fill_head(proto, array)
    if as_content and kind is not _TEXT:
        proto.tensor_content = array.astype(kind.stored, copy=False).tobytes()
        return
    flat = array.reshape(-1)
    if kind is _TEXT:
        values = [tf.compat.as_bytes(value) for value in flat.tolist()]
    elif kind.field in ("scomplex_val", "dcomplex_val"):
        values = np.stack([flat.real, flat.imag], axis=-1).reshape(-1).tolist()
    elif kind.field == "half_val":
        values = flat.astype(kind.stored, copy=False).view("<u2").tolist()
    else:
        values = flat.tolist()
    getattr(proto, kind.field).extend(values)


def fill_apart(proto: tensor_pb2.TensorProto, array: np.ndarray) -> np.ndarray | None:
    """As `fill_proto`, but what would be a large `tensor_content` is left out.

    Returns:
        its bytes, (bytes,) uint8; None if all of `array` is in `proto`.
    """
    if array.dtype.kind in "OSU" or array.nbytes < wire.LARGE:
        fill_proto(proto, array, as_content=True)
        return None
    stored = _fill_head(proto, array).stored
    return np.ascontiguousarray(array, stored).reshape(-1).view(np.uint8)


def _fill_head(proto: tensor_pb2.TensorProto, array: np.ndarray) -> _Kind:
    kind = _TEXT if array.dtype.kind in "OSU" else _kind_of(array.dtype)
    if kind is None:
        raise TypeError(f"There is no tensor of {array.dtype}.")
    proto.dtype = kind.number
    add = proto.tensor_shape.dim.add
    for size in array.shape:
        add(size=size)
    return kind
