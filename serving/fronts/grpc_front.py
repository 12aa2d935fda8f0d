"""The gRPC front: the API's calls over gRPC, with health checks and TLS."""

import asyncio
import concurrent.futures
import os
import socket
import stat
import tempfile
from collections.abc import Sequence

import grpc
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

from serving import wire
from serving.api.service import Service
from serving.errors import ServingError, invalid, proper_errors
from serving.fronts.event_loop import EventLoop, until_quiet
from serving.status_codes import Code

_PREDICTION = "tensorflow.serving.PredictionService"
_MODEL = "tensorflow.serving.ModelService"
# What the health service is asked for: the whole server, the services' names as TF
# Serving spells them, and as gRPC does.
_HEALTH = ("", "PredictionService", "ModelService", _PREDICTION, _MODEL)
_REQUESTS = {
    (_PREDICTION, "Predict"): predict_pb2.PredictRequest,
    (_PREDICTION, "Classify"): classification_pb2.ClassificationRequest,
    (_PREDICTION, "Regress"): regression_pb2.RegressionRequest,
    (_PREDICTION, "MultiInference"): inference_pb2.MultiInferenceRequest,
    (_PREDICTION, "GetModelMetadata"): get_model_metadata_pb2.GetModelMetadataRequest,
    (_MODEL, "GetModelStatus"): get_model_status_pb2.GetModelStatusRequest,
    (_MODEL, "HandleReloadConfigRequest"): model_management_pb2.ReloadConfigRequest,
}

# A thousand candidates are tens of megabytes: frames and windows for them take a third
# off the transfer's time.
_LARGE_MESSAGES = (
    ("grpc.http2.max_frame_size", 4 << 20),
    ("grpc.http2.lookahead_bytes", 64 << 20),
    ("grpc.http2.bdp_probe", 0),
)
# A peer that vanished without a word is noticed, and its calls are cancelled.
_NOTICE_THE_DEAD = (
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
)
# Calls that the event loop has not got round to: from a thousand on gRPC would cut some
# off. Here they wait, or are refused, as `most_calls` says.
_LET_THEM_WAIT = (
    ("grpc.server.max_pending_requests", 1 << 30),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 30),
)
_LAST_ANSWERS_SECONDS = 0.1
_LONGEST_MESSAGE = 1024
_CUT = "...TRUNCATED"


class GrpcFront:
    """A gRPC server in front of a `Service`, in an event loop of its own.

    Calls wait for their message, and for a thread, in the loop: a client that opens
    calls and sends nothing holds no thread.

    Args:
        service: answers the calls.
        addresses: host:port or unix:path; all are listened on.
        credentials: TLS for the host:port ones; None for plain text.
        threads: calls that are answered at once; more wait.
        most_message_bytes: size of the largest request that is not refused.
        most_calls: calls accepted, waiting ones included; more are refused.
        receive_seconds: longest time that a sender may take.
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
        receive_seconds: float,
        health_service: bool = False,
        channel_arguments: Sequence[tuple[str, int | str]] = (),
    ):
        self._service = service
        self._receive_seconds = receive_seconds
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "grpc")
        self._arrived = self._under_way = 0
        self._draining = self._ending = False
        options = [
            ("grpc.max_receive_message_length", most_message_bytes),
            ("grpc.max_send_message_length", -1),
            ("grpc.so_reuseport", 0),
            *_LARGE_MESSAGES,
            *_NOTICE_THE_DEAD,
            *_LET_THEM_WAIT,
            *channel_arguments,
        ]
        self._events = EventLoop("grpc-front")
        self._addresses, self._credentials = addresses, credentials
        try:
            # It listens when it starts: what can be connected to is taken for ready.
            # What cannot be listened on is said before models are loaded for minutes.
            for address in addresses:
                _check_address(address, credentials)
            self._events.run(self._make(options, most_calls, health_service))
        except ServingError:
            self._events.close()
            raise
        self.ports: list[int] = []

    def start(self) -> None:
        """Listens and answers; its health is NOT_SERVING.

        Raises:
            ServingError: an address cannot be listened on.
        """
        self._events.run(self._start())

    def say_serving(self) -> None:
        """Makes its health SERVING, unless it is ending."""
        self._events.run(self._say_serving())

    def drain(self, seconds: float) -> None:
        """Returns when all calls that had arrived are answered.

        Calls that arrive meanwhile, or later, get UNAVAILABLE. So do, if the process
        ends then, those that gRPC has not handed over yet; `stop` would have them
        CANCELLED, which clients do not try again.

        Args:
            seconds: longest time to wait.
        """
        self._events.run(self._drain(seconds))

    def stop(self) -> None:
        """Ends it; calls under way are cancelled."""
        self._events.run(self._server.stop(None))
        self._events.close()
        self._pool.shutdown(wait=False)

    async def _make(self, options, most_calls, health_service) -> None:
        self._server = grpc.aio.server(
            options=options, maximum_concurrent_rpcs=most_calls
        )
        for owner in (_PREDICTION, _MODEL):
            handlers = {
                method: self._handler(method, kind)
                for (name, method), kind in _REQUESTS.items()
                if name == owner
            }
            self._server.add_generic_rpc_handlers(
                [grpc.method_handlers_generic_handler(owner, handlers)]
            )
        self._health = health.aio.HealthServicer() if health_service else None
        if self._health is not None:
            health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)

    async def _start(self) -> None:
        self.ports = [
            self._listen(address, self._credentials) for address in self._addresses
        ]
        await self._say_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await self._server.start()

    async def _say_serving(self) -> None:
        if not self._ending:
            await self._say_health(health_pb2.HealthCheckResponse.SERVING)

    async def _drain(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        self._ending = True
        await self._say_health(health_pb2.HealthCheckResponse.NOT_SERVING)
        await until_quiet(lambda: self._arrived, seconds)
        self._draining = True
        while self._under_way and loop.time() < end:
            await asyncio.sleep(0.01)
        await asyncio.sleep(_LAST_ANSWERS_SECONDS)  # They are on their way.

    def _listen(self, address: str, credentials) -> int:
        try:
            if credentials is None or address.startswith("unix:"):
                return self._server.add_insecure_port(address)
            return self._server.add_secure_port(address, credentials)
        except RuntimeError as error:
            _check_address(address, credentials)
            raise invalid(f"gRPC cannot listen on {address}") from error

    async def _say_health(self, status) -> None:
        if self._health is not None:
            for name in _HEALTH:
                await self._health.set(name, status)

    def _handler(self, method: str, kind: type[message.Message]):
        def answer(data: bytes) -> bytes:
            with self._service.call(method, "GRPC") as call:
                more = {}
                if kind is predict_pb2.PredictRequest:
                    data, more["contents"] = wire.take_contents(data)
                try:
                    request = kind.FromString(data)
                except message.DecodeError as error:
                    raise invalid(
                        f"The request is not a {kind.DESCRIPTOR.full_name}"
                    ) from error
                return call.answer(request, **more).SerializeToString()

        async def handle(_, context: grpc.aio.ServicerContext) -> bytes:
            self._arrived += 1
            self._under_way += 1
            context.add_done_callback(self._done)
            try:
                with proper_errors():
                    if self._draining:
                        raise ServingError(Code.UNAVAILABLE, "The server is stopping")
                    data = await self._receive(context)
                    run = self._service.limits.run
                    return await run(self._pool, len(data), answer, data)
            except ServingError as error:
                await context.abort(error.code, _shortened(error.message))

        # On the wire a stream of one message is the same as one message, and only of
        # a stream does gRPC let the handler bound the wait for the message.
        return grpc.stream_unary_rpc_method_handler(handle)

    def _done(self, _) -> None:
        self._under_way -= 1

    async def _receive(self, context: grpc.aio.ServicerContext) -> bytes:
        try:
            async with asyncio.timeout(self._receive_seconds):
                data = await context.read()
        except TimeoutError as error:
            raise ServingError(
                Code.DEADLINE_EXCEEDED,
                f"No request came within {self._receive_seconds:g} s",
            ) from error
        if data is grpc.aio.EOF:
            raise invalid("The call was made without a request")
        return data


def _shortened(message: str) -> str:
    """The message as far as it goes into the head of a response."""
    if len(message) <= _LONGEST_MESSAGE:
        return message
    return message[: _LONGEST_MESSAGE - len(_CUT)] + _CUT


def _check_address(address: str, credentials: grpc.ServerCredentials | None) -> None:
    """Raises INVALID_ARGUMENT, with the reason, if gRPC cannot listen on an address.

    gRPC itself only logs the reason.
    """
    path = address.removeprefix("unix:")
    if path != address:
        reasons = _refusals([(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)])
    else:
        host, _, port = address.rpartition(":")
        try:
            places = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
        except OSError as error:
            raise invalid(_cannot_listen(address, error)) from error
        reasons = _refusals(places)
        if len(reasons) < len(places):
            reasons = []  # It listens on what is left.
    if reasons:
        raise invalid(_cannot_listen(address, reasons[0])) from reasons[0]
    if path == address and credentials is not None and not _is_sound(credentials):
        reason = "the key or the certificate of --ssl_config_file is not sound"
        raise invalid(f"gRPC cannot listen on {address}: {reason}")


def _cannot_listen(address: str, error: OSError) -> str:
    return f"gRPC cannot listen on {address}: {error.strerror or error}"


def _refusals(places) -> list[OSError]:
    """What the system says of those of `places` that cannot be listened on."""
    refusals = []
    for family, kind, protocol, _, place in places:
        is_path = family == socket.AF_UNIX
        if is_path and os.path.exists(place) and stat.S_ISSOCK(os.stat(place).st_mode):
            continue  # Left over by a process that was killed: gRPC takes its place.
        try:
            with socket.socket(family, kind, protocol) as tried:
                if not is_path:
                    tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                tried.bind(place)
            if is_path:
                os.unlink(place)
        except OSError as error:
            refusals.append(error)
    return refusals


def _is_sound(credentials: grpc.ServerCredentials) -> bool:
    # gRPC looks at them when it listens. On a socket without a name in the file system
    # nobody finds it.
    with tempfile.TemporaryDirectory() as folder:
        server = grpc.server(concurrent.futures.ThreadPoolExecutor(1))
        try:
            server.add_secure_port(f"unix:{folder}/socket", credentials)
        except RuntimeError:
            return False
        finally:
            server.stop(None)
    return True


def tls_credentials(config: message.Message) -> grpc.ServerCredentials:
    """The credentials that an SSLConfig names; see `text_configs`."""
    if not config.server_key or not config.server_cert:
        raise invalid("--ssl_config_file must set server_key and server_cert")
    if config.client_verify and not config.custom_ca:
        raise invalid("--ssl_config_file: client_verify needs custom_ca")
    return grpc.ssl_server_credentials(
        [(config.server_key.encode(), config.server_cert.encode())],
        config.custom_ca.encode() or None,
        require_client_auth=config.client_verify,
    )
