"""Calls about models: GetModelMetadata, GetModelStatus, HandleReloadConfigRequest."""

from collections.abc import Sequence

from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_management_pb2,
)

from serving.api.predict import answer_spec
from serving.errors import ServingError, invalid
from serving.models.catalog import Catalog
from serving.models.lifecycle import Lifecycle, Unavailable
from serving.monitoring import Monitoring
from serving.status_codes import Code

SIGNATURE_DEF = "signature_def"


def get_model_metadata(
    catalog: Catalog, request: get_model_metadata_pb2.GetModelMetadataRequest
) -> get_model_metadata_pb2.GetModelMetadataResponse:
    """The signatures of a model."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    if not request.metadata_field:
        raise invalid(
            "GetModelMetadataRequest must specify at least one metadata_field"
        )
    for field in request.metadata_field:
        if field != SIGNATURE_DEF:
            raise invalid(f"Metadata field {field} is not supported")
    response = get_model_metadata_pb2.GetModelMetadataResponse()
    with catalog.using(request.model_spec) as (model, version):
        definitions = get_model_metadata_pb2.SignatureDefMap()
        for key, definition in model.definitions.items():
            definitions.signature_def[key].CopyFrom(definition)
    answer_spec(response.model_spec, request.model_spec, version, "")
    response.metadata[SIGNATURE_DEF].Pack(definitions)
    return response


def get_model_status(
    catalog: Catalog, request: get_model_status_pb2.GetModelStatusRequest
) -> get_model_status_pb2.GetModelStatusResponse:
    """The state of every version of a model, or of one."""
    if not request.HasField("model_spec"):
        raise invalid("Missing ModelSpec")
    response = get_model_status_pb2.GetModelStatusResponse()
    for status in catalog.statuses(request.model_spec):
        added = response.model_version_status.add(
            version=status.version, state=int(status.state)
        )
        if status.error is not None:
            added.status.error_code = status.error.code.value[0]
            added.status.error_message = status.error.message
    return response


def reload_config(
    lifecycle: Lifecycle,
    request: model_management_pb2.ReloadConfigRequest,
    monitoring: Monitoring,
) -> model_management_pb2.ReloadConfigResponse:
    """Serves the models of the request from now on, and no others.

    The response says how far the counters rose meanwhile that the request names.

    Raises:
        ServingError: INVALID_ARGUMENT or FAILED_PRECONDITION as of `configure`;
            UNKNOWN, new models do not answer. They are in the config all the same.
    """
    kind = request.config.WhichOneof("config")
    if kind != "model_config_list":
        raise invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only "
            "ModelConfigList is currently supported"
        )
    before = monitoring.totals(request.metric_names)
    unavailable = lifecycle.configure(list(request.config.model_config_list.config))
    if unavailable:
        raise ServingError(Code.UNKNOWN, not_available("model", unavailable))
    response = model_management_pb2.ReloadConfigResponse()
    response.status.SetInParent()
    for name, total in monitoring.totals(request.metric_names).items():
        response.metric.add(name=name, int64_value_increase=total - before[name])
    return response


def not_available(what: str, unavailable: Sequence[Unavailable]) -> str:
    """The message that these did not become available, as TF Serving words it.

    Args:
        what: its noun for them.
    """
    count = len({each.name for each in unavailable})
    listed = ", ".join(map(str, unavailable))
    return f"{count} {what}(s) did not become available: {{{listed}}}"
