"""The REST front: the API's calls over HTTP and JSON, and Prometheus's page."""

import asyncio
import concurrent.futures
import contextlib
import logging
import re
import urllib.parse
from collections.abc import Callable

from aiohttp import web
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.api.service import Call, Service
from serving.errors import ServingError, invalid, proper_errors
from serving.fronts import json_answers, json_requests
from serving.fronts.event_loop import EventLoop, until_quiet
from serving.fronts.http_connections import HttpConnections
from serving.models.signatures import Signature
from serving.status_codes import HTTP, Code

_MODEL = (
    r"/v1/models/(?P<name>[^/:]+)"
    r"(?:/versions/(?P<version>[0-9]+)|/labels/(?P<label>[^/:]+))?"
)
# Of the path as it was sent: only then are names unquoted, which may hold / and :.
_CALL = re.compile(rf"{_MODEL}:(?P<method>predict|classify|regress)", re.IGNORECASE)
_METADATA = re.compile(rf"{_MODEL}/metadata", re.IGNORECASE)
_STATUS = re.compile(_MODEL, re.IGNORECASE)
_NO_MODEL = re.compile(r"/v1/models/?", re.IGNORECASE)
_INT64_MAX = 2**63 - 1
_IDLE_SECONDS = 75
_STOP_SECONDS = 0.1
# Bytes of Python objects for a byte of JSON, at worst (lists of empty lists).
_JSON_MEMORY = 24


class RestFront:
    """An HTTP server in front of a `Service`, in a thread of its own.

    Args:
        service: answers the calls.
        host, port: the interface and port to listen on; port 0 for any free one.
        threads: calls that are answered at once; more wait.
        timeout_seconds: longest time for a call, from the end of its head on; None
            for any.
        most_body_bytes: size, unpacked, of the largest request that is not refused.
        most_connections: connections open at once; more are closed.
        receive_seconds: longest time that a sender may take.
        cors: tell browsers that pages of other hosts may call.
        metrics_path: path of the Prometheus page; None for no page.

    Raises:
        ServingError: the port is in use.
    """

    def __init__(
        self,
        service: Service,
        *,
        host: str,
        port: int,
        threads: int,
        timeout_seconds: float | None,
        most_body_bytes: int,
        most_connections: int,
        receive_seconds: float,
        cors: bool = False,
        metrics_path: str | None = None,
    ):
        self._service = service
        self._timeout = timeout_seconds
        self._receive_seconds = receive_seconds
        self._cors = cors
        self._metrics_path = metrics_path
        self._most_body_bytes = most_body_bytes
        self._arrived = 0
        self._draining = False
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "rest")
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            logger=_quiet_logger(),
            shutdown_timeout=_STOP_SECONDS,
            keepalive_timeout=_IDLE_SECONDS,
        )
        self._events = EventLoop("rest-front")
        try:
            self._events.run(self._listen(host, port, most_connections))
        except OSError as error:
            self._events.close()
            raise invalid(f"REST cannot listen on {host}:{port}: {error}") from error

    def drain(self, seconds: float) -> None:
        """Returns when all calls that had arrived are answered; accepts no more then.

        Args:
            seconds: longest time to wait.
        """
        self._events.run(self._drain(seconds))

    def stop(self) -> None:
        """Ends it; calls under way are cut off."""
        self._events.run(self._stop())
        self._events.close()
        self._pool.shutdown(wait=False)

    async def _listen(self, host: str, port: int, most_connections: int) -> None:
        await self._runner.setup()
        self._connections = HttpConnections(
            self._runner.server, most=most_connections, seconds=self._receive_seconds
        )
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._connections, host, port)
        self.port = self._listener.sockets[0].getsockname()[1]

    async def _drain(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        self._draining = True
        await until_quiet(lambda: self._arrived, seconds)
        self._listener.close()
        server = self._runner.server
        server.pre_shutdown()
        left = max(0.0, end - loop.time())
        # The library waits up to twice as long as it is told; for ever if told 0.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(server.shutdown(left), left)

    async def _stop(self) -> None:
        self._listener.close()
        await self._runner.cleanup()

    async def _handle(self, request: web.Request) -> web.Response:
        self._connections.heard(request)
        self._arrived += 1
        if self._cors and request.method == "OPTIONS":
            return self._respond(200, b"")
        if self._metrics_path and request.path == self._metrics_path:
            page = self._service.monitoring.page().encode()
            return self._respond(200, page, "text/plain; version=0.0.4")
        try:
            return self._respond(
                200, await asyncio.wait_for(self._answered(request), self._timeout)
            )
        except TimeoutError:
            error = ServingError(Code.DEADLINE_EXCEEDED, "Timed out")
        except ServingError as caught:
            error = caught
        return self._respond(HTTP[error.code], json_answers.error_json(error.message))

    async def _answered(self, request: web.Request) -> bytes:
        with proper_errors():
            call = self._route(request)
            body = await self._body(request)
            amount = len(body) * _JSON_MEMORY
            return await self._service.limits.run(self._pool, amount, call, body)

    async def _body(self, request: web.Request) -> bytes:
        try:
            async with asyncio.timeout(self._receive_seconds):
                return await self._received(request)
        except TimeoutError as error:
            raise ServingError(
                Code.DEADLINE_EXCEEDED,
                f"The request's body did not come within {self._receive_seconds:g} s",
            ) from error
        except (ValueError, ConnectionError, web.RequestPayloadError) as error:
            # A body that is not what the headers say.
            raise invalid(f"The request cannot be read: {error}") from error

    async def _received(self, request: web.Request) -> bytes:
        body = bytearray()
        with contextlib.ExitStack() as held:
            while chunk := await request.content.readany():
                # What slow senders have sent so far is in memory too.
                held.enter_context(self._service.limits.memory(len(chunk)))
                body += chunk
                if len(body) > self._most_body_bytes:
                    raise ServingError(
                        Code.RESOURCE_EXHAUSTED, "The request is too large"
                    )
        return bytes(body)

    def _route(self, request: web.Request) -> Callable[[bytes], bytes]:
        verb, path = request.method, request.rel_url.raw_path
        if verb == "POST" and (match := _CALL.fullmatch(path)):
            call = getattr(self, f"_{match['method'].lower()}")
            return lambda body: call(_spec(match), body)
        if verb == "GET" and (match := _METADATA.fullmatch(path)):
            return lambda _: self._metadata(_spec(match))
        if verb == "GET" and (match := _STATUS.fullmatch(path)):
            return lambda _: self._status(_spec(match))
        if not path.lower().startswith("/v1"):
            raise ServingError(Code.NOT_FOUND, f"Not found: {path}")
        self._service.monitoring.request_count.add("", Code.INVALID_ARGUMENT.name)
        if verb == "GET" and _NO_MODEL.fullmatch(path):
            raise invalid("Missing model name in request.")
        raise invalid(f"Malformed request: {verb} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        request = predict_pb2.PredictRequest(model_spec=spec)
        with self._service.call("Predict", "REST") as call:
            call.spec = request.model_spec
            given = json_requests.parse(body)
            request.model_spec.signature_name = json_requests.signature_name(given)
            rows = False

            # The types that JSON lacks stand in the signature; and whether there is one
            # is said before anything else of the body.
            def fill(signature: Signature) -> None:
                nonlocal given, rows
                rows = json_requests.is_rows(given)
                json_requests.fill_predict(request, given, signature)
                given = None  # It takes many times the request's memory.

            response = call.answer(request, fill=fill)
            return json_answers.predict_json(response, rows=rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        with self._service.call("Classify", "REST") as call:
            self._fill_examples(call, request, body)
            return json_answers.classify_json(call.answer(request))

    def _regress(self, spec: model_pb2.ModelSpec, body: bytes) -> bytes:
        request = regression_pb2.RegressionRequest(model_spec=spec)
        with self._service.call("Regress", "REST") as call:
            self._fill_examples(call, request, body)
            return json_answers.regress_json(call.answer(request))

    def _fill_examples(self, call: Call, request, body: bytes) -> None:
        call.spec = request.model_spec
        given = json_requests.parse(body)
        request.model_spec.signature_name = json_requests.signature_name(given)
        json_requests.fill_examples(request, given)

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        with self._service.call("GetModelMetadata", "REST") as call:
            return json_answers.metadata_json(call.answer(request))

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        with self._service.call("GetModelStatus", "REST") as call:
            return json_answers.status_json(call.answer(request))

    def _respond(
        self, status: int, body: bytes, kind: str = "application/json"
    ) -> web.Response:
        headers = {"Content-Type": kind}
        if self._cors:
            headers |= {
                "Access-Control-Allow-Origin": "*",
                "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
                "Access-Control-Allow-Headers": "Content-Type",
            }
        response = web.Response(status=status, body=body, headers=headers)
        if self._draining:
            # So that the caller sends its next request elsewhere.
            response.force_close()
        return response


def _quiet_logger() -> logging.Logger:
    """A logger for aiohttp, which prints a traceback for every broken request."""
    logger = logging.getLogger("serving.fronts.rest_front")
    logger.setLevel(logging.CRITICAL)
    return logger


def _spec(match: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=_unquoted(match["name"]))
    if match["version"]:
        number = int(match["version"])
        if number > _INT64_MAX:
            raise invalid(f"Version {match['version']} is too large")
        spec.version.value = number
    elif match["label"]:
        spec.version_label = _unquoted(match["label"])
    return spec


def _unquoted(name: str) -> str:
    try:
        return urllib.parse.unquote(name, errors="strict")
    except UnicodeDecodeError as error:
        raise invalid(f"{name} is no text in UTF-8") from error
