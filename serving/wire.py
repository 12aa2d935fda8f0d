"""Serialized PredictRequests of megabytes, with as few copies as there can be.

Between an array and the wire protobuf copies the contents of each tensor three times:
with 1,500 candidates, 50 megabytes, a sixth of what a call takes on top of the model's
run. Here a message and its tensors' contents go apart: the message is read and written
by protobuf, the contents are cut out of the bytes, or put in between.

The format: https://protobuf.dev/programming-guides/encoding
"""

from collections.abc import Iterator, Mapping

import numpy as np
from tensorflow.core.framework import types_pb2
from tensorflow_serving.apis import predict_pb2

LARGE = 1 << 16
"""Bytes of a tensor from which on it is worth it."""

_INPUTS = predict_pb2.PredictRequest.INPUTS_FIELD_NUMBER
_KEY, _VALUE = 1, 2  # Of an entry in a map.
_DTYPE, _CONTENT = 1, 4  # Of a TensorProto.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MOST_FIELDS = 1000
_LONGEST_VARINT = 10
_ALIGNMENT = 64


def take_contents(data: bytes) -> tuple[bytes, dict[str, memoryview]]:
    """A serialized PredictRequest without its large `tensor_content`s, and those.

    Returns:
        the message without them, and alias -> bytes. A message of another than the
        usual form is left as it is: protobuf has the last word on what it means.
    """
    if len(data) < LARGE:
        return data, {}
    view, contents, rest, aliases = memoryview(data), {}, [], set()
    try:
        for number, kind, start, inside, end in _fields(view, 0, len(data)):
            if (number, kind) != (_INPUTS, _BYTES):
                rest.append(view[start:end])
                continue
            alias, tensor, content = _entry(view, inside, end)
            if alias in aliases:
                return data, {}  # The last one counts.
            aliases.add(alias)
            if content is None:
                rest.append(view[start:end])
                continue
            contents[alias.decode()] = content
            entry = _field(_KEY, alias) + _field(_VALUE, tensor)
            rest.append(_field(_INPUTS, entry))
    except ValueError:
        return data, {}
    return (b"".join(rest), contents) if contents else (data, {})


def join_contents(
    request: predict_pb2.PredictRequest, contents: Mapping[str, np.ndarray]
) -> bytes:
    """`request`, serialized, with `contents` as `tensor_content` of its inputs.

    Args:
        request: has the inputs with their dtypes and shapes; loses those of `contents`.
        contents: alias -> bytes, (bytes,) uint8.
    """
    parts: list[bytes | np.ndarray] = []
    for alias, content in contents.items():
        tensor = request.inputs.pop(alias).SerializeToString()
        tensor += _head(_CONTENT, len(content))
        key = _field(_KEY, alias.encode())
        key += _head(_VALUE, len(tensor) + len(content))
        parts += [_head(_INPUTS, len(key) + len(tensor) + len(content)), key, tensor]
        parts.append(content)
    return b"".join([request.SerializeToString(), *parts])


def aligned(content: memoryview, dtype: np.dtype) -> np.ndarray:
    """The values in `content`, copied to where TensorFlow takes them as they are."""
    room = np.empty(len(content) + _ALIGNMENT, np.uint8)
    start = -room.ctypes.data % _ALIGNMENT
    values = room[start : start + len(content)]
    values[:] = np.frombuffer(content, np.uint8)
    return values.view(dtype)


def _entry(
    view: memoryview, start: int, end: int
) -> tuple[bytes, bytes, memoryview | None]:
    """An entry of the map: its key, the tensor without the content, the content.

    The content is None, and the tensor empty, if it is better left where it is.

    Raises:
        ValueError: it is no entry of the usual form.
    """
    fields = sorted(_fields(view, start, end))
    if [field[:2] for field in fields] != [(_KEY, _BYTES), (_VALUE, _BYTES)]:
        raise ValueError("not one key and one value")
    key_start, key_end, value_start, value_end = *fields[0][3:], *fields[1][3:]
    alias, rest, content = bytes(view[key_start:key_end]), [], None
    for number, kind, at, inside, past in _fields(view, value_start, value_end):
        if number == _CONTENT and kind == _BYTES and content is None:
            content = view[inside:past]
            continue
        if number == _CONTENT or (number == _DTYPE and _is_text(view, inside, past)):
            return alias, b"", None
        rest.append(view[at:past])
    if content is None or len(content) < LARGE:
        return alias, b"", None
    return alias, b"".join(rest), content


def _is_text(view: memoryview, at: int, end: int) -> bool:
    # An enum is of 32 bits, whatever comes.
    return _varint(view, at, end)[0] & 0xFFFFFFFF == types_pb2.DT_STRING


def _fields(
    view: memoryview, start: int, end: int
) -> Iterator[tuple[int, int, int, int, int]]:
    """Number, kind, start, start of the value and end of each field of a message.

    Raises:
        ValueError: it is no message, or has too many fields or groups.
    """
    at, count = start, 0
    while at < end:
        count += 1
        key, inside = _varint(view, at, end)
        kind = key & 7
        if kind == _VARINT:
            past = _varint(view, inside, end)[1]
        elif kind == _BYTES:
            length, inside = _varint(view, inside, end)
            past = inside + length
        elif kind in (_FIXED32, _FIXED64):
            past = inside + (4 if kind == _FIXED32 else 8)
        else:
            raise ValueError("a group")
        if past > end or count > _MOST_FIELDS:
            raise ValueError("cut off, or too many fields")
        yield key >> 3, kind, at, inside, past
        at = past


def _varint(view: memoryview, at: int, end: int) -> tuple[int, int]:
    """Reads a varint: its value, and where it ends."""
    value = 0
    for i in range(_LONGEST_VARINT):
        if at + i >= end:
            break
        byte = view[at + i]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value, at + i + 1
    raise ValueError("cut off, or too long")


def _field(number: int, value: bytes) -> bytes:
    return _head(number, len(value)) + value


def _head(number: int, length: int) -> bytes:
    """The bytes before the value of a field: its number, kind and length."""
    head = bytearray()
    for value in (number << 3 | _BYTES, length):
        while value > 0x7F:
            head.append(value & 0x7F | 0x80)
            value >>= 7
        head.append(value)
    return bytes(head)
