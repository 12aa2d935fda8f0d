"""The API over gRPC."""

import concurrent.futures
from collections.abc import Sequence

import grpc
import tensorflow as tf
from google.protobuf import message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.errors import ServingError, invalid
from serving.service import Service

_PREDICTION = "tensorflow.serving.PredictionService"
_MODEL = "tensorflow.serving.ModelService"
_REQUESTS = {
    (_PREDICTION, "Predict"): predict_pb2.PredictRequest,
    (_PREDICTION, "Classify"): classification_pb2.ClassificationRequest,
    (_PREDICTION, "Regress"): regression_pb2.RegressionRequest,
    (_PREDICTION, "MultiInference"): inference_pb2.MultiInferenceRequest,
    (_PREDICTION, "GetModelMetadata"): get_model_metadata_pb2.GetModelMetadataRequest,
    (_MODEL, "GetModelStatus"): get_model_status_pb2.GetModelStatusRequest,
    (_MODEL, "HandleReloadConfigRequest"): model_management_pb2.ReloadConfigRequest,
}


class GrpcFront:
    """A gRPC server in front of a `Service`.

    Args:
        service: answers.
        addresses: host:port or unix:path; all are listened on.
        credentials: of TLS, for the host:port ones; none for plain text.
        threads: calls that are answered at once; more wait.
        most_message_bytes: a larger request is refused.
        most_calls: calls accepted, waiting ones included; more are refused.
        health_service: also answer grpc.health.v1.Health.
        channel_arguments: further settings of gRPC.

    Raises:
        ServingError: an address cannot be listened on.
    """

    def __init__(
        self,
        service: Service,
        addresses: Sequence[str],
        *,
        credentials: grpc.ServerCredentials | None = None,
        threads: int,
        most_message_bytes: int,
        most_calls: int,
        health_service: bool = False,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
    ):
        self._server = grpc.server(
            concurrent.futures.ThreadPoolExecutor(threads, "grpc"),
            maximum_concurrent_rpcs=most_calls,
            options=[
                ("grpc.max_receive_message_length", most_message_bytes),
                ("grpc.max_send_message_length", -1),
                ("grpc.so_reuseport", 0),
                *channel_arguments,
            ],
        )
        for owner in (_PREDICTION, _MODEL):
            handlers = {
                method: _handler(service, method, kind)
                for (name, method), kind in _REQUESTS.items()
                if name == owner
            }
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(owner, handlers)]
            )
        self._health = health.HealthServicer() if health_service else None
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        self.ports = [self._listen(address, credentials) for address in addresses]

    def start(self) -> None:
        self._server.start()
        self._say_health(health_pb2.HealthCheckResponse.SERVING)

    def stop(self, seconds: float) -> None:
        """Accepts no more calls; returns when those under way are answered."""
        self._say_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        self._server.stop(seconds).wait()

    def _listen(self, address: str, credentials) -> int:
        try:
            if credentials is None or address.startswith("unix:"):
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            raise invalid(f"gRPC cannot listen on {address}: it is in use") from error

    def _say_health(self, status) -> None:
        if self._health is not None:
            for name in ("", _PREDICTION, _MODEL):
                self._health.set(name, status)


def tls_credentials(config: message.Message) -> grpc.ServerCredentials:
    """What an SSLConfig says; see `text_configs`."""
    if not config.server_key or not config.server_cert:
        raise invalid("--ssl_config_file must set server_key and server_cert")
    if config.client_verify and not config.custom_ca:
        raise invalid("--ssl_config_file: client_verify needs custom_ca")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )


def _handler(service: Service, method: str, kind: type[message.Message]):
    def parse(data: bytes) -> message.Message | bytes:
        # gRPC answers INTERNAL if this raises: what cannot be parsed goes on as it is.
        try:
            return kind.FromString(data)
        except message.DecodeError:
            return data

    def answer(request, context: grpc.ServicerContext):
        try:
            if isinstance(request, bytes):
                raise invalid(f"The request is not a {kind.DESCRIPTOR.full_name}")
            return service.answer(method, request, "GRPC")
        except ServingError as error:
            context.abort(error.code, error.message)

    return grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=parse,
        response_serializer=lambda response: response.SerializeToString(),
    )


def version_text() -> str:
    """What --version prints."""
    return f"TensorFlow ModelServer API on TensorFlow Library: {tf.__version__}"
