"""JSON requests -> the messages of the API, as TF Serving's REST API defines it."""

import base64
import binascii
import itertools
import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import classification_pb2, predict_pb2, regression_pb2

from serving import tensors
from serving.errors import invalid
from serving.models.signatures import Endpoint, Signature

BASE64 = "b64"
"""The key of an object that holds bytes: {"b64": "..."}."""

_INT64 = range(-(2**63), 2**63)
_SURROGATES = "\\ud", "\\uD"
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
# Other infinities than these two are decimals that a double does not hold.
_INFINITIES = [id(_WORDS["Infinity"]), id(_WORDS["-Infinity"])]
# Further spellings of the words, and the strings in which they are none. One without an
# end is taken as far as there is text, so that no place is looked at twice.
_SPELLINGS = re.compile(r'"(?:[^"\\]|\\.)*+(?:"|\Z)|-(?=NaN)|\bInf\b', re.DOTALL)


def _named_in_utf8(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    for name, _ in pairs:
        name.encode()
    return dict(pairs)


_DECODER = json.JSONDecoder(parse_constant=_WORDS.__getitem__)
_DECODER_OF_BYTES = json.JSONDecoder(
    parse_constant=_WORDS.__getitem__, object_pairs_hook=_named_in_utf8
)


def parse(body: bytes) -> dict[str, Any]:
    """The JSON object in `body`; NaN, Inf and Infinity may stand in it as bare words.

    Strings may hold any bytes; those that are not UTF-8 become lone surrogates.
    """
    try:
        value = _loads(body)
    except (ValueError, RecursionError) as error:
        raise invalid(f"JSON Parse error: {error}") from error
    if not isinstance(value, dict):
        raise invalid("JSON Value: the request is not an object")
    return value


def _loads(body: bytes) -> Any:
    decoder = _DECODER
    try:
        text = body.decode(json.detect_encoding(body))
    except UnicodeDecodeError:
        text, decoder = body.decode("utf-8", "surrogateescape"), _DECODER_OF_BYTES
    try:
        value = decoder.decode(text)
    except json.JSONDecodeError:
        if "Inf" not in text and "-NaN" not in text:
            raise
        value = decoder.decode(_with_usual_words(text))
    if any(half in text for half in _SURROGATES):
        # Half of a pair is no character: no name or string could hold it.
        json.dumps(value, ensure_ascii=False).encode()
    return value


def _with_usual_words(text: str) -> str:
    """`text` with Infinity for Inf and NaN for -NaN, where they are no strings."""
    usual = {"Inf": "Infinity", "-": ""}
    return _SPELLINGS.sub(lambda match: usual.get(match[0], match[0]), text)


def signature_name(body: Mapping[str, Any]) -> str:
    """The signature that a request names; "" for none."""
    name = body.get("signature_name", "")
    if not isinstance(name, str) or not _is_text(name):
        raise invalid("'signature_name' key must be a string value.")
    return name


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def is_rows(body: Mapping[str, Any]) -> bool:
    """Whether a predict request is in row form ("instances") or column form."""
    if "instances" in body and "inputs" in body:
        raise invalid(
            "Request must have exactly one of the keys 'instances' and 'inputs'"
        )
    if "instances" not in body and "inputs" not in body:
        raise invalid("Missing 'inputs' or 'instances' key")
    return "instances" in body


def fill_predict(
    request: predict_pb2.PredictRequest,
    body: Mapping[str, Any],
    signature: Signature,
) -> None:
    """Puts the inputs of a JSON body into `request`."""
    columns = _rows(body, signature) if is_rows(body) else _columns(body, signature)
    for alias, values in columns.items():
        if alias not in signature.inputs:
            raise invalid(
                f"JSON object: does not have named input: {alias}; expected "
                f"{sorted(signature.inputs)}"
            )
        array = _array(alias, values, signature.inputs[alias])
        tensors.fill_proto(request.inputs[alias], array, as_content=True)


def fill_examples(
    request: classification_pb2.ClassificationRequest
    | regression_pb2.RegressionRequest,
    body: Mapping[str, Any],
) -> None:
    """Puts the examples (and context) of a classify or regress body into `request`."""
    listed = body.get("examples")
    if not isinstance(listed, list):
        raise invalid(
            "When method is classify or regress, key 'examples' must be a list"
        )
    if "context" in body:
        target = request.input.example_list_with_context
        _fill_example(target.context, body["context"])
    else:
        target = request.input.example_list
    for example in listed:
        _fill_example(target.examples.add(), example)


def _rows(body, signature: Signature) -> dict[str, list]:
    rows = body["instances"]
    if not isinstance(rows, list) or not rows:
        raise invalid("'instances' must be a list with at least one value")
    if not all(isinstance(row, dict) and not _is_base64(row) for row in rows):
        if any(isinstance(row, dict) and not _is_base64(row) for row in rows):
            raise invalid("'instances' must be all objects or all values")
        return {_only(signature): rows}
    names = set(rows[0])
    for i, row in enumerate(rows):
        if set(row) != names:
            raise invalid(
                f"instances[{i}] has the inputs {sorted(row)}; instances[0] has "
                f"{sorted(names)}"
            )
    return {name: [row[name] for row in rows] for name in names}


def _columns(body, signature: Signature) -> dict[str, Any]:
    values = body["inputs"]
    if isinstance(values, dict) and not _is_base64(values):
        # What is meant for other signatures or models is passed over.
        return {name: values[name] for name in signature.inputs if name in values}
    return {_only(signature): values}


def _only(signature: Signature) -> str:
    if len(signature.inputs) != 1:
        raise invalid(
            f"The signature has the inputs {sorted(signature.inputs)}: values must be "
            "given by name"
        )
    return next(iter(signature.inputs))


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and set(value) == {BASE64}


def _array(alias: str, values: Any, endpoint: Endpoint) -> np.ndarray:
    flat, shape = _flat(alias, values)
    if endpoint.dtype == tf.string:
        array = np.empty(len(flat), object)
        array[:] = [_bytes(alias, value) for value in flat]
        return array.reshape(shape)
    expected = tensors.dtype_name(endpoint.dtype.as_datatype_enum)
    if endpoint.dtype == tf.bool:
        allowed = {bool}
    elif endpoint.dtype.is_integer:
        allowed = {int}
    else:
        allowed = {int, float}
    if not set(map(type, flat)) <= allowed:
        wrong = next(value for value in flat if type(value) not in allowed)
        raise invalid(f"input {alias}: expected {expected}, received {_shown(wrong)}")
    numpy = endpoint.dtype.as_numpy_dtype
    try:
        with np.errstate(over="ignore"):
            if endpoint.dtype.is_integer or endpoint.dtype == tf.bool:
                array = np.array(flat, numpy)
            else:
                doubles = np.array(flat, np.float64)
                if np.isinf(doubles).any():
                    _check_infinities(flat)
                array = doubles.astype(numpy)
    except OverflowError as error:
        raise invalid(f"input {alias}: a value does not fit {expected}") from error
    return array.reshape(shape)


def _flat(alias: str, values: Any) -> tuple[list, list[int]]:
    """The values of nested lists in a row, and the lists' lengths from outside in.

    numpy would take ragged lists and mixed types for something else, and any amount
    of memory for it.
    """
    flat, shape = [values], []
    while set(map(type, flat)) == {list}:
        lengths = set(map(len, flat))
        if len(lengths) > 1:
            raise invalid(f"input {alias}: lists of unequal lengths or depths")
        shape += lengths
        flat = list(itertools.chain.from_iterable(flat))
    if list in set(map(type, flat)):
        raise invalid(f"input {alias}: lists of unequal lengths or depths")
    if len(shape) > tensors.MOST_DIMENSIONS:
        raise invalid(f"input {alias}: more than {tensors.MOST_DIMENSIONS} dimensions")
    return flat, shape


def _check_infinities(values: Sequence[Any]) -> None:
    """Raises OverflowError for an infinity that was written as a decimal."""
    for value in values:
        is_infinite = type(value) is float and math.isinf(value)
        if is_infinite and id(value) not in _INFINITIES:
            raise OverflowError("Number too big to be stored in double.")


def _bytes(alias: str, value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if _is_base64(value) and isinstance(value[BASE64], str):
        try:
            # Encoders break lines, and leave out the padding.
            text = value[BASE64].encode("ascii").translate(None, b" \t\n\v\f\r")
            if len(text) % 4 and not text.endswith(b"="):
                text += b"=" * (-len(text) % 4)
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise invalid(f"input {alias}: Unable to base64 decode") from error
    raise invalid(f"input {alias}: expected DT_STRING, received {_shown(value)}")


def _shown(value: Any) -> str:
    """A value for a message: short whatever a client sent."""
    if isinstance(value, (list, dict)):
        return "a list" if isinstance(value, list) else "an object"
    if isinstance(value, int) and abs(value) > 1 << 64:
        return "a huge integer"
    return json.dumps(value[:60] if isinstance(value, str) else value)


def _fill_example(example: tf.train.Example, given: Any) -> None:
    if not isinstance(given, dict):
        raise invalid("Example must be an object of feature names and values")
    for name, value in given.items():
        values = value if isinstance(value, list) else [value]
        feature = example.features.feature[name]
        kinds = set(map(type, values))
        if not values:
            continue  # Of no kind: as good as left out, whatever the model takes.
        if kinds <= {str, dict}:
            feature.bytes_list.value.extend(_bytes(name, v) for v in values)
        elif kinds <= {int, bool}:
            if not all(v in _INT64 for v in values):
                raise invalid(f"feature {name}: a value does not fit DT_INT64")
            feature.int64_list.value.extend(map(int, values))
        elif kinds <= {int, float}:
            feature.float_list.value.extend(_float32(name, v) for v in values)
        else:
            raise invalid(
                f"feature {name}: expected numbers or strings, received {_shown(value)}"
            )


def _float32(name: str, value: float) -> float:
    try:
        if math.isinf(number := float(value)):
            _check_infinities([value])
        with np.errstate(over="ignore"):
            return float(np.float32(number))
    except OverflowError as error:
        raise invalid(f"feature {name}: a value does not fit DT_FLOAT") from error
