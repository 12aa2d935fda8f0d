"""The call Predict: named tensors in, named tensors out."""

import types
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
from tensorflow_serving.apis import model_pb2, predict_pb2

from serving import tensors
from serving.errors import invalid
from serving.memory_limits import MemoryLimits
from serving.models.catalog import Catalog
from serving.models.saved_model import SavedModel
from serving.models.signatures import Signature

DEFAULT_SIGNATURE = "serving_default"


def predict(
    catalog: Catalog,
    request: predict_pb2.PredictRequest,
    *,
    as_content: bool = False,
    limits: MemoryLimits,
    contents: Mapping[str, memoryview] = types.MappingProxyType({}),
    fill: Callable[[Signature], None] | None = None,
) -> predict_pb2.PredictResponse:
    """Answers a PredictRequest.

    Args:
        catalog: looks up the model that the request names.
        as_content: put outputs in `tensor_content` instead of typed fields.
        limits: bounds on the memory that requests take.
        contents: alias -> `tensor_content` of those inputs that are without it.
        fill: puts the inputs into `request`, of the signature that it names; none if
            they are there.

    Raises:
        ServingError: with the status and message of TF Serving.
    """
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    with catalog.using(request.model_spec) as (model, version):
        if fill is not None:
            if key not in model.signatures:
                # REST has words of its own for it.
                raise invalid(
                    f'Serving signature name: "{key}" not found in signature def'
                )
            fill(model.signatures[key])
        outputs = run_predict(model, request, limits, contents)
    response = predict_pb2.PredictResponse()
    answer_spec(response.model_spec, request.model_spec, version, key)
    for name, array in outputs.items():
        tensors.fill_proto(response.outputs[name], array, as_content=as_content)
    return response


def run_predict(
    model: SavedModel,
    request: predict_pb2.PredictRequest,
    limits: MemoryLimits,
    contents: Mapping[str, memoryview] = types.MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """What `model` computes for a request, output's alias -> array; as `predict`."""
    key = request.model_spec.signature_name or DEFAULT_SIGNATURE
    signature = model.signature(key)
    outputs = wanted_outputs(signature, request.output_filter)
    check_names(signature, request.inputs)
    heads = {
        alias: tensors.declared(alias, proto) for alias, proto in request.inputs.items()
    }
    for alias, head in heads.items():
        limits.check_tensor(alias, head.shape, head.amount)
    with limits.memory(sum(head.amount for head in heads.values())):
        given = {
            alias: tensors.from_proto(
                alias, request.inputs[alias], head, contents.get(alias)
            )
            for alias, head in heads.items()
        }
        return model.run(signature, with_defaults(signature, given), outputs)


def check_names(signature: Signature, sent: Iterable[str]) -> None:
    """Raises INVALID_ARGUMENT unless the aliases are those of the signature.

    As in TF Serving, one that is not known passes if there are not too many: it stands
    in the place of an input that has a default.
    """
    sent, known = set(sent), signature.inputs.keys()
    if sent == known:
        return
    required = known - signature.defaults.keys()
    too_few = len(sent) < len(known) and not signature.defaults
    if too_few or len(sent) > len(known):
        raise invalid(
            f"input size does not match signature: {len(sent)}!={len(known)} "
            f"len({_set(sent)}) != len({_set(known)}). "
            f"Sent extra: {_set(sent - known)}. "
            f"Missing but required: {_set(required - sent)}."
        )
    for alias in sorted(required - sent):
        raise invalid(
            f"Signature input alias: {alias}(feed name: "
            f"{signature.inputs[alias].tensor}) not found in request and no default "
            f"value provided. Inputs expected to be in the set {_set(known)}."
        )


def with_defaults(
    signature: Signature, given: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    """The inputs of the signature: those given, else the default ones."""
    return {
        alias: given[alias] if alias in given else signature.defaults[alias]
        for alias in signature.inputs
    }


def wanted_outputs(signature: Signature, chosen: Sequence[str]) -> list[str]:
    """The outputs that a filter asks for; all if it is empty."""
    for i, alias in enumerate(chosen):
        if alias not in signature.outputs:
            raise invalid(
                f"output tensor alias not found in signature: {alias} Outputs "
                f"expected to be in the set {_set(signature.outputs)}."
            )
        if alias in chosen[:i]:
            raise invalid(f"duplicate output tensor alias: {alias}")
    return list(chosen) or sorted(signature.outputs)


def answer_spec(
    spec: model_pb2.ModelSpec, asked: model_pb2.ModelSpec, version: int, signature: str
) -> None:
    """Fills a response's model_spec: the version that answered, the signature used."""
    spec.name = asked.name
    spec.version.value = version
    spec.signature_name = signature


def _set(names: Iterable[str]) -> str:
    return "{" + ",".join(sorted(names)) + "}"
