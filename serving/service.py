"""The calls of the API, counted and timed; gRPC and REST answer through it."""

import contextlib
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

from google.protobuf import message

from serving import examples, metadata, predict
from serving.errors import Code, ServingError
from serving.models import Models
from serving.monitoring import Monitoring


class Service:
    """Answers requests of every kind.

    Args:
        models: what is served.
        monitoring: counts and times.
        as_content: outputs in `tensor_content` instead of typed fields.
        most_bytes: a request with a larger tensor is refused.
        most_requests: more at once are refused.
    """

    def __init__(
        self,
        models: Models,
        monitoring: Monitoring,
        *,
        as_content: bool,
        most_bytes: int,
        most_requests: int,
    ):
        self.models = models
        self.monitoring = monitoring
        self._places = threading.BoundedSemaphore(most_requests)
        self._most_requests = most_requests
        self._answers: dict[str, Callable[[Any], message.Message]] = {
            "Predict": lambda request: predict.predict(
                models, request, as_content=as_content, most_bytes=most_bytes
            ),
            "Classify": lambda request: examples.classify(models, request),
            "Regress": lambda request: examples.regress(models, request),
            "MultiInference": lambda request: examples.multi_inference(models, request),
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

    def answer(self, api: str, request: message.Message, entrypoint: str):
        """The response to `request`.

        Args:
            api: the call's name in the service's definition.
            request: its message.
            entrypoint: "GRPC" or "REST".

        Raises:
            ServingError: the only exception that gets out.
        """
        with self._counted(api, request, entrypoint), self._place():
            try:
                return self._answers[api](request)
            except ServingError:
                raise
            except MemoryError as error:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED, "Out of memory for this request"
                ) from error
            except Exception as error:
                # A defect of ours: the client gets a proper status, the log the place.
                traceback.print_exc(file=sys.stderr)
                raise ServingError(
                    Code.INTERNAL, f"{type(error).__name__}: {error}"
                ) from error

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

    @contextlib.contextmanager
    def _counted(self, api: str, request, entrypoint: str) -> Iterator[None]:
        monitoring = self.monitoring
        started, status = time.perf_counter(), Code.OK
        monitoring.requests_in_flight.add(entrypoint)
        try:
            yield
        except ServingError as error:
            status = error.code
            raise
        finally:
            monitoring.requests_in_flight.add(entrypoint, amount=-1)
            name, signature = self._labels(request, status)
            monitoring.request_count.add(name, status.name)
            monitoring.request_count_by_signature.add(
                name, signature, api, entrypoint, status.name
            )
            micros = (time.perf_counter() - started) * 1e6
            monitoring.request_latency.observe(micros, name, api, entrypoint)

    def _labels(self, request, status: Code) -> tuple[str, str]:
        spec = getattr(request, "model_spec", None)
        if spec is None and getattr(request, "tasks", None):
            spec = request.tasks[0].model_spec
        if spec is None:
            return "", ""
        # Whatever a client sends must not become a label: each takes memory for good.
        if spec.name not in self.models.available():
            return "", ""
        signature = spec.signature_name or predict.DEFAULT_SIGNATURE
        return spec.name, signature if status is Code.OK else ""
