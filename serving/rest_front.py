"""The API over HTTP and JSON, and the page that Prometheus reads."""

import asyncio
import concurrent.futures
import re
import threading
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

from serving import rest_codec
from serving.errors import HTTP, Code, ServingError, invalid
from serving.predict import DEFAULT_SIGNATURE
from serving.service import Service

_MODEL = (
    r"/v1/models/(?P<name>[^/:]+)"
    r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/:]+))?"
)
_CALL = re.compile(rf"{_MODEL}:(?P<method>predict|classify|regress)")
_METADATA = re.compile(rf"{_MODEL}/metadata")
_STATUS = re.compile(_MODEL)
_INT64_MAX = 2**63 - 1


class RestFront:
    """An HTTP server in front of a `Service`, in a thread of its own.

    Args:
        service: answers.
        host, port: where it listens.
        threads: calls that are answered at once; more wait.
        timeout_seconds: longest time for a call, from its first byte on; also the
            longest time that a sender may take.
        drain_seconds: for calls under way when it stops.
        most_body_bytes: a larger request, unpacked, is refused.
        most_bytes: a request with a larger tensor is refused.
        cors: tell browsers that pages of other hosts may call.
        metrics_path: path of the Prometheus page; none for no page.

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
        timeout_seconds: float,
        drain_seconds: float,
        most_body_bytes: int,
        most_bytes: int,
        cors: bool = False,
        metrics_path: str | None = None,
    ):
        self._service = service
        self._timeout = timeout_seconds
        self._most_bytes = most_bytes
        self._cors = cors
        self._metrics_path = metrics_path
        self._pool = concurrent.futures.ThreadPoolExecutor(threads, "rest")
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="rest")
        self._thread.start()
        application = web.Application(client_max_size=most_body_bytes)
        application.router.add_route("*", "/{path:.*}", self._handle)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=drain_seconds
        )
        try:
            self._in_loop(self._listen(host, port))
        except OSError as error:
            self.stop()
            raise invalid(f"REST cannot listen on {host}:{port}: {error}") from error

    def stop(self) -> None:
        """Accepts no more calls; returns when those under way are answered."""
        self._in_loop(self._runner.cleanup())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._pool.shutdown(wait=False)

    def _in_loop(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result()

    async def _listen(self, host: str, port: int) -> None:
        await self._runner.setup()
        await web.TCPSite(self._runner, host, port).start()
        self.port = self._runner.addresses[0][1]

    async def _handle(self, request: web.Request) -> web.Response:
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
        except web.HTTPRequestEntityTooLarge:
            error = ServingError(Code.RESOURCE_EXHAUSTED, "The request is too large")
        except web.HTTPException as caught:
            return self._respond(caught.status, rest_codec.error_json(caught.reason))
        except (ValueError, ConnectionError) as caught:
            # aiohttp raises these for bodies that are not what the headers say.
            error = invalid(f"The request cannot be read: {caught}")
        return self._respond(HTTP[error.code], rest_codec.error_json(error.message))

    async def _answered(self, request: web.Request) -> bytes:
        call = self._route(request)
        body = await request.read()
        return await self._loop.run_in_executor(self._pool, call, body)

    def _route(self, request: web.Request) -> Callable[[bytes], bytes]:
        verb, path = request.method, request.path
        if verb == "POST" and (found := _CALL.fullmatch(path)):
            call = getattr(self, f"_{found['method']}")
            return lambda body: call(_spec(found), rest_codec.parse(body))
        if verb == "GET" and (found := _METADATA.fullmatch(path)):
            return lambda _: self._metadata(_spec(found))
        if verb == "GET" and (found := _STATUS.fullmatch(path)):
            return lambda _: self._status(_spec(found))
        if not path.startswith("/v1"):
            raise ServingError(Code.NOT_FOUND, f"Not found: {path}")
        raise invalid(f"Malformed request: {verb} {path}")

    def _predict(self, spec: model_pb2.ModelSpec, body: dict) -> bytes:
        spec.signature_name = rest_codec.signature_name(body)
        rows = rest_codec.is_rows(body)
        request = predict_pb2.PredictRequest(model_spec=spec)
        # The types that JSON lacks stand in the signature.
        with self._service.models.using(spec) as (model, version):
            signature = model.signature(spec.signature_name or DEFAULT_SIGNATURE)
            request.model_spec.version.value = version
            rest_codec.fill_predict(
                request, body, signature, most_bytes=self._most_bytes
            )
        response = self._service.answer("Predict", request, "REST")
        return rest_codec.predict_json(response, rows=rows)

    def _classify(self, spec: model_pb2.ModelSpec, body: dict) -> bytes:
        spec.signature_name = rest_codec.signature_name(body)
        request = classification_pb2.ClassificationRequest(model_spec=spec)
        rest_codec.fill_examples(request, body)
        return rest_codec.classify_json(
            self._service.answer("Classify", request, "REST")
        )

    def _regress(self, spec: model_pb2.ModelSpec, body: dict) -> bytes:
        spec.signature_name = rest_codec.signature_name(body)
        request = regression_pb2.RegressionRequest(model_spec=spec)
        rest_codec.fill_examples(request, body)
        return rest_codec.regress_json(self._service.answer("Regress", request, "REST"))

    def _metadata(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=spec, metadata_field=["signature_def"]
        )
        return rest_codec.metadata_json(
            self._service.answer("GetModelMetadata", request, "REST")
        )

    def _status(self, spec: model_pb2.ModelSpec) -> bytes:
        request = get_model_status_pb2.GetModelStatusRequest(model_spec=spec)
        return rest_codec.status_json(
            self._service.answer("GetModelStatus", request, "REST")
        )

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
        return web.Response(status=status, body=body, headers=headers)


def _spec(found: re.Match) -> model_pb2.ModelSpec:
    spec = model_pb2.ModelSpec(name=found["name"])
    if found["version"]:
        number = int(found["version"])
        if number > _INT64_MAX:
            raise invalid(f"Version {found['version']} is too large")
        spec.version.value = number
    elif found["label"]:
        spec.version_label = found["label"]
    return spec
