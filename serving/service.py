"""The calls of the API, counted and timed; gRPC and REST answer through it."""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import message
from tensorflow_serving.apis import model_pb2

from serving import examples, metadata, predict
from serving.errors import Code, ServingError, proper_errors
from serving.limits import Limits
from serving.models import Models
from serving.monitoring import Monitoring

_INFERENCE = {"Predict", "Classify", "Regress", "MultiInference"}


class Service:
    """Answers requests of every kind.

    Args:
        models: what is served.
        monitoring: counts and times.
        as_content: outputs in `tensor_content` instead of typed fields.
        limits: on the memory that requests take.
        most_requests: more at once are refused.
    """

    def __init__(
        self,
        models: Models,
        monitoring: Monitoring,
        *,
        as_content: bool,
        limits: Limits,
        most_requests: int,
    ):
        self.models = models
        self.monitoring = monitoring
        self.limits = limits
        self._places = threading.BoundedSemaphore(most_requests)
        self._most_requests = most_requests
        self._answers: dict[str, Callable[..., message.Message]] = {
            "Predict": lambda request, **more: predict.predict(
                models, request, as_content=as_content, limits=limits, **more
            ),
            "Classify": lambda request: examples.classify(models, request, limits),
            "Regress": lambda request: examples.regress(models, request, limits),
            "MultiInference": lambda request: examples.multi_inference(
                models, request, limits
            ),
            "GetModelMetadata": lambda request: metadata.get_model_metadata(
                models, request
            ),
            "GetModelStatus": lambda request: metadata.get_model_status(
                models, request
            ),
            "HandleReloadConfigRequest": lambda request: metadata.reload_config(
                models, request
            ),
        }

    @contextlib.contextmanager
    def call(self, api: str, entrypoint: str) -> Iterator["Call"]:
        """Counts and times a call, and takes its place among those at once.

        Everything of it belongs inside: reading the request, `Call.answer`, and
        writing the response.

        Args:
            api: the call's name in the service's definition.
            entrypoint: "GRPC" or "REST".

        Raises:
            ServingError: the only exception that gets out.
        """
        monitoring = self.monitoring
        started, status = time.perf_counter(), Code.OK
        call = Call(self._answers[api])
        monitoring.requests_in_flight.add(entrypoint)
        try:
            with proper_errors(), self._place():
                yield call
        except ServingError as error:
            status = error.code
            raise
        finally:
            monitoring.requests_in_flight.add(entrypoint, amount=-1)
            name, signature = self._labels(api, call.spec, status)
            monitoring.request_count.add(name, status.name)
            monitoring.request_count_by_signature.add(
                name, signature, api, entrypoint, status.name
            )
            micros = (time.perf_counter() - started) * 1e6
            monitoring.request_latency.observe(micros, name, api, entrypoint)

    @contextlib.contextmanager
    def _place(self) -> Iterator[None]:
        if not self._places.acquire(blocking=False):
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"The server is at its limit of {self._most_requests} requests at once",
            )
        try:
            yield
        finally:
            self._places.release()

    def _labels(self, api: str, spec, status: Code) -> tuple[str, str]:
        # Whatever a client sends must not become a label: each takes memory for good.
        if spec is None or not self.models.knows(spec.name):
            return "", ""
        if api not in _INFERENCE or status is not Code.OK:
            return spec.name, ""
        return spec.name, spec.signature_name or predict.DEFAULT_SIGNATURE


class Call:
    """One call under way.

    Args:
        answer: makes the response.
    """

    def __init__(self, answer: Callable[..., message.Message]):
        self._answer = answer
        self.spec: model_pb2.ModelSpec | None = None

    def answer(self, request: message.Message, **more: Any) -> Any:
        """The response to `request`; raises ServingError.

        Args:
            request: of the call's kind.
            more: further arguments; `fill` of `predict.predict`.
        """
        self.spec = getattr(request, "model_spec", None)
        if self.spec is None and getattr(request, "tasks", None):
            self.spec = request.tasks[0].model_spec
        return self._answer(request, **more)
