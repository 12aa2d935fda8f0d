"""Messages of the API -> JSON answers, as TF Serving's REST API defines them."""

import base64
import json
import math
from typing import Any

import numpy as np
from google.protobuf import json_format
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    predict_pb2,
    regression_pb2,
)

from serving import tensors
from serving.errors import ServingError, invalid
from serving.fronts.json_requests import BASE64
from serving.status_codes import Code, code_of


def predict_json(response: predict_pb2.PredictResponse, *, rows: bool) -> bytes:
    """The JSON of a Predict response, in the form of its request: rows or columns."""
    outputs = {
        alias: tensors.from_proto(alias, proto)
        for alias, proto in response.outputs.items()
    }
    values = {alias: _jsonable(alias, array) for alias, array in outputs.items()}
    single = len(values) == 1
    if not rows:
        columns = next(iter(values.values())) if single else values
        return _dump({"outputs": columns})
    sizes = {alias: array.shape[:1] for alias, array in outputs.items()}
    if len(set(sizes.values())) != 1 or () in sizes.values():
        raise invalid(
            "Outputs of different batch sizes have no row form; ask with 'inputs'. "
            f"Received: {sizes}"
        )
    if single:
        return _dump({"predictions": next(iter(values.values()))})
    aliases = list(values)
    listed = zip(*values.values(), strict=True)
    return _dump(
        {"predictions": [dict(zip(aliases, row, strict=True)) for row in listed]}
    )


def classify_json(response: classification_pb2.ClassificationResponse) -> bytes:
    return _dump(
        {
            "results": [
                [[c.label, _short(c.score)] for c in row.classes]
                for row in response.result.classifications
            ]
        }
    )


def regress_json(response: regression_pb2.RegressionResponse) -> bytes:
    return _dump({"results": [_short(r.value) for r in response.result.regressions]})


def status_json(response: get_model_status_pb2.GetModelStatusResponse) -> bytes:
    names = get_model_status_pb2.ModelVersionStatus.State
    return _dump(
        {
            "model_version_status": [
                {
                    "version": str(status.version),
                    "state": names.Name(status.state),
                    "status": {
                        "error_code": code_of(status.status.error_code).name,
                        "error_message": status.status.error_message,
                    },
                }
                for status in response.model_version_status
            ]
        }
    )


def metadata_json(response: get_model_metadata_pb2.GetModelMetadataResponse) -> bytes:
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(definitions)
    spec = response.model_spec
    described = {
        "name": spec.name,
        "signature_name": spec.signature_name,
        "version": str(spec.version.value),
    }
    return _dump(
        {
            "model_spec": described,
            "metadata": {"signature_def": _with_defaults_printed(definitions)},
        }
    )


def error_json(message: str) -> bytes:
    return _dump({"error": message})


def _with_defaults_printed(proto) -> dict[str, Any]:
    try:
        return json_format.MessageToDict(
            proto,
            preserving_proto_field_name=True,
            always_print_fields_with_no_presence=True,
        )
    except TypeError:  # protobuf before 5
        return json_format.MessageToDict(
            proto,
            preserving_proto_field_name=True,
            including_default_value_fields=True,
        )


def _jsonable(alias: str, array: np.ndarray) -> Any:
    if array.dtype == object:
        as_bytes = alias.endswith("_bytes")
        flat = [_text(value, as_bytes) for value in array.reshape(-1)]
        return _nested(flat, array.shape)
    if array.dtype.kind == "c":
        raise ServingError(
            Code.UNIMPLEMENTED, f"output {alias}: complex numbers have no JSON form"
        )
    if array.dtype.kind not in "iubf":
        array = array.astype(np.float32)
    if array.dtype in (np.float32, np.float16):
        return _nested([_short(v) for v in array.reshape(-1)], array.shape)
    return array.tolist()


def _short(value: float) -> float:
    """The shortest decimal that is this float32."""
    number = np.float32(value)
    return float(str(number)) if math.isfinite(number) else float(number)


def _text(value: bytes, as_bytes: bool) -> Any:
    if as_bytes:
        return {BASE64: base64.b64encode(value).decode()}
    return value.decode("utf-8", "replace")


def _nested(flat: list, shape: tuple[int, ...]) -> Any:
    if not shape:
        return flat[0]
    for size in reversed(shape[1:]):
        if size == 0:
            return np.empty(shape).tolist()
        flat = [flat[i : i + size] for i in range(0, len(flat), size)]
    return flat


def _dump(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(", ", ": ")).encode(
        errors="replace"
    )
