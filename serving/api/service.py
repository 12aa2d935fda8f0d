"""The calls of the API, counted and timed; gRPC and REST answer through it."""

import threading
import time
from collections.abc import Callable
from typing import Any, Self

from google.protobuf import message
from tensorflow_serving.apis import model_pb2

from serving.api import examples, metadata, predict
from serving.errors import ServingError, proper_error
from serving.memory_limits import MemoryLimits
from serving.models.catalog import Catalog
from serving.models.lifecycle import Lifecycle
from serving.monitoring import Monitoring
from serving.status_codes import Code

_INFERENCE = {"Predict", "Classify", "Regress", "MultiInference"}
_OF_EXAMPLES = _INFERENCE - {"Predict"}
_REST = "REST"
_STATUSES = {code: code.name for code in Code}  # An enum's name is a call.


class Service:
    """Answers requests of every kind.

    Args:
        catalog: looks the models up that requests name.
        lifecycle: takes the configs of reload requests.
        monitoring: counts and times every call.
        as_content: put outputs in `tensor_content` instead of typed fields.
        limits: bounds on the memory that requests take.
        most_requests: requests at once; more are refused.
        check_methods: Classify and Regress refuse signatures of another method.
    """

    def __init__(
        self,
        catalog: Catalog,
        lifecycle: Lifecycle,
        monitoring: Monitoring,
        *,
        as_content: bool,
        limits: MemoryLimits,
        most_requests: int,
        check_methods: bool = False,
    ):
        self.catalog = catalog
        self.monitoring = monitoring
        self.limits = limits
        self._places = threading.BoundedSemaphore(most_requests)
        self._most_requests = most_requests
        self._answers: dict[str, Callable[..., message.Message]] = {
            "Predict": lambda request, **more: predict.predict(
                catalog, request, as_content=as_content, limits=limits, **more
            ),
            "Classify": lambda request: examples.classify(
                catalog, request, limits, check_method=check_methods
            ),
            "Regress": lambda request: examples.regress(
                catalog, request, limits, check_method=check_methods
            ),
            "MultiInference": lambda request: examples.multi_inference(
                catalog, request, limits, check_method=check_methods
            ),
            "GetModelMetadata": lambda request: metadata.get_model_metadata(
                catalog, request
            ),
            "GetModelStatus": lambda request: metadata.get_model_status(
                catalog, request
            ),
            "HandleReloadConfigRequest": lambda request: metadata.reload_config(
                lifecycle, request, monitoring
            ),
        }

    def call(self, api: str, entrypoint: str) -> "Call":
        """A call of `api`, the name in the service's definition.

        Args:
            api: "Predict", "Classify" and so on.
            entrypoint: "GRPC" or "REST".
        """
        return Call(self, api, entrypoint)

    def take_place(self) -> None:
        """Raises RESOURCE_EXHAUSTED if there are as many requests as may be."""
        if not self._places.acquire(blocking=False):
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"The server is at its limit of {self._most_requests} requests at once",
            )

    def give_place(self) -> None:
        """Leaves the place that `take_place` took to another."""
        self._places.release()

    def answer(self, api: str, request: message.Message, **more: Any) -> Any:
        """The response to a request of `api`; see `Call.answer`."""
        return self._answers[api](request, **more)


class Call:
    """One call under way: counts and times it, in its place among those at once.

    Everything of it belongs inside `with`: reading the request, `answer`, and writing
    the response. Nothing but a `ServingError` gets out.

    Args:
        api: the call's name in the service's definition.
        entrypoint: "GRPC" or "REST".
    """

    def __init__(self, service: Service, api: str, entrypoint: str):
        self._service = service
        self._api, self._entrypoint = api, entrypoint
        self.spec: model_pb2.ModelSpec | None = None

    def answer(self, request: message.Message, **more: Any) -> Any:
        """The response to `request`; raises ServingError.

        Args:
            request: of the call's kind.
            more: further arguments; `contents` or `fill` of `predict.predict`.
        """
        self.spec = getattr(request, "model_spec", None)
        if self.spec is None and getattr(request, "tasks", None):
            self.spec = request.tasks[0].model_spec
        response = self._service.answer(self._api, request, **more)
        if self._api in _OF_EXAMPLES:
            count = examples.count(request.input)
            self._service.monitoring.request_example_counts.observe(
                count, self.spec.name
            )
            self._service.monitoring.request_example_count_total.add(
                self.spec.name, amount=count
            )
        return response

    def __enter__(self) -> Self:
        self._started = time.perf_counter()
        self._service.monitoring.requests_in_flight.add(self._entrypoint)
        try:
            self._service.take_place()
        except ServingError as error:
            self._count(error.code)
            raise
        return self

    def __exit__(self, _, error: BaseException | None, trace) -> None:
        self._service.give_place()
        if not isinstance(error, Exception):
            self._count(Code.OK)
            return
        proper = proper_error(error)
        self._count(proper.code)
        if proper is not error:
            raise proper from error

    def _count(self, status: Code) -> None:
        monitoring = self._service.monitoring
        api, entrypoint, shown = self._api, self._entrypoint, _STATUSES[status]
        monitoring.requests_in_flight.add(entrypoint, amount=-1)
        name, signature = self._labels(status)
        if api in _INFERENCE or entrypoint == _REST:
            monitoring.request_count.add(name, shown)
        monitoring.request_count_by_signature.add(
            name, signature, api, entrypoint, shown
        )
        if api in _INFERENCE and status is Code.OK:
            micros = (time.perf_counter() - self._started) * 1e6
            # Over REST it is the word in the path.
            label = api.lower() if entrypoint == _REST else api
            monitoring.request_latency.observe(micros, name, label, entrypoint)

    def _labels(self, status: Code) -> tuple[str, str]:
        # Whatever a client sends must not become a label: each takes memory for good.
        if self.spec is None or not self._service.catalog.knows(self.spec.name):
            return "", ""
        name = self.spec.name
        if self._api not in _INFERENCE or status is not Code.OK:
            return name, ""
        return name, self.spec.signature_name or predict.DEFAULT_SIGNATURE
