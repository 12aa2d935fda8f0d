"""A client of TF Serving's gRPC API: numpy arrays in, numpy arrays out.

    with Client("localhost:8500") as client:
        answer = client.predict("mine", {"x": np.ones([8, 3], np.float32)})
        answer.outputs["probabilities"]   # (8, tasks)
        answer.version                    # the version that answered

Works against `serving.server` and TF Serving's own server alike.
"""

import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import grpc
from google.protobuf import message
from tensorflow_serving.apis import (
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
)

from serving.connection import Connection
from serving.errors import ServingError
from serving.predict_messages import (
    Prediction,
    SignatureSpec,
    model_spec,
    read_prediction,
    serialized_request,
    tensor_specs,
)
from serving.status_codes import Code


class CallError(ServingError):
    """A call that failed: `code` and `message` are the server's, `attempts` ours."""

    def __init__(self, code: Code, message: str, what: str, attempts: int):
        super().__init__(code, message)
        self.what = what
        self.attempts = attempts

    def __str__(self) -> str:
        tried = f" after {self.attempts} attempts" if self.attempts > 1 else ""
        return f"{self.what}: {self.code.name}{tried}: {self.message}"

    def __reduce__(self):
        return type(self), (self.code, self.message, self.what, self.attempts)


class Client:
    """A connection to a server; any number of threads may use it.

        with Client("localhost:8500") as client:
            print(client.states("mine"))             # {1: "END", 2: "AVAILABLE"}
            print(client.signatures("mine"))         # what it takes and gives
            dense = np.zeros([200, 3], np.float32)   # one row per candidate
            try:
                answer = client.predict("mine", {"x": dense}, timeout_seconds=0.5)
            except CallError as error:               # error.code, error.attempts
                raise SystemExit(f"No scores: {error}")
            answer.outputs["probabilities"]          # (200, tasks), of answer.version

    All calls go over one channel, which reconnects by itself. A call that ends with
    UNAVAILABLE (no connection yet, the server restarts, its queue is full) is made
    again after a random wait of at most first_wait * 2^attempt seconds, until it has
    been made `attempts` times or its deadline would pass; scoring has no side effects,
    so doing it twice is harmless. Nothing else is retried.

    Args:
        server: a `Connection`, or HOST:PORT or unix:PATH for one in plain text.
        timeout_seconds: deadline of a call, all its attempts together.
        attempts: how often a call is made at most; 1 for no second try.
        first_wait_seconds: the longest that the first wait can be.
        most_wait_seconds: the longest that any wait can be.
    """

    def __init__(
        self,
        server: Connection | str,
        *,
        timeout_seconds: float = 10.0,
        attempts: int = 5,
        first_wait_seconds: float = 0.05,
        most_wait_seconds: float = 2.0,
    ):
        if attempts < 1:
            raise ValueError(f"attempts must be at least 1. Received: {attempts}")
        if not timeout_seconds > 0:
            raise ValueError(
                f"timeout_seconds must be positive. Received: {timeout_seconds}"
            )
        self.connection = Connection(server) if isinstance(server, str) else server
        self.timeout_seconds = timeout_seconds
        self.attempts = attempts
        self.first_wait_seconds = first_wait_seconds
        self.most_wait_seconds = most_wait_seconds
        self._channel = self.connection.open()
        self._predictions = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self._predict_serialized = self._channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            response_deserializer=predict_pb2.PredictResponse.FromString,
        )
        self._models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_) -> None:
        self.close()

    def close(self) -> None:
        """Ends the connection and the calls that are under way."""
        self._channel.close()

    def predict(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        signature: str = "",
        version: int | None = None,
        label: str | None = None,
        outputs: Sequence[str] = (),
        timeout_seconds: float | None = None,
    ) -> Prediction:
        """Computes a signature's outputs.

        Args:
            inputs: alias -> array, of exactly the signature's dtype: 1.0 is float64.
            signature: the signature's key; empty for serving_default.
            version: a certain version; else the newest, or the one that `label` names.
            label: a version's label, such as `stable`; not beside `version`.
            outputs: aliases of the outputs wanted; none for all.
            timeout_seconds: deadline of this call instead of the client's.

        Raises:
            CallError: the call failed.
        """
        request = serialized_request(
            model,
            inputs,
            signature=signature,
            version=version,
            label=label,
            outputs=outputs,
        )
        what = _predict_of(model)
        return read_prediction(
            self._call(self._predict_serialized, request, what, timeout_seconds)
        )

    def send(
        self,
        request: predict_pb2.PredictRequest,
        *,
        timeout_seconds: float | None = None,
    ) -> predict_pb2.PredictResponse:
        """Sends a request as it is. Raises CallError as `predict` does."""
        what = _predict_of(request.model_spec.name)
        return self._call(self._predictions.Predict, request, what, timeout_seconds)

    def signatures(
        self, model: str, *, version: int | None = None, label: str | None = None
    ) -> dict[str, SignatureSpec]:
        """What a model can be asked, key -> signature. Raises CallError."""
        request = get_model_metadata_pb2.GetModelMetadataRequest(
            model_spec=model_spec(model, version=version, label=label),
            metadata_field=["signature_def"],
        )
        what = f"GetModelMetadata of model {model!r}"
        response = self._call(self._predictions.GetModelMetadata, request, what)
        definitions = get_model_metadata_pb2.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        return {
            key: SignatureSpec(
                definition.method_name,
                tensor_specs(definition.inputs),
                tensor_specs(definition.outputs),
            )
            for key, definition in definitions.signature_def.items()
            # The file's own bookkeeping.
            if key != "__saved_model_init_op"
        }

    def states(self, model: str) -> dict[int, str]:
        """The versions of a model -> START, LOADING, AVAILABLE, UNLOADING or END.

        Raises:
            CallError: the call failed.
        """
        request = get_model_status_pb2.GetModelStatusRequest(
            model_spec=model_spec(model)
        )
        what = f"GetModelStatus of model {model!r}"
        response = self._call(self._models.GetModelStatus, request, what)
        names = get_model_status_pb2.ModelVersionStatus.State
        return {
            status.version: names.Name(status.state)
            for status in response.model_version_status
        }

    def _call(
        self,
        method: Callable,
        request: message.Message | bytes,
        what: str,
        timeout_seconds: float | None = None,
    ) -> Any:
        seconds = self.timeout_seconds if timeout_seconds is None else timeout_seconds
        deadline = time.monotonic() + seconds
        what = f"{what} at {self.connection.target}"
        attempt = 1
        while True:
            try:
                left = max(deadline - time.monotonic(), 0.0)
                return method(request, timeout=left)
            except grpc.RpcError as error:
                failed = CallError(error.code(), error.details() or "", what, attempt)
            except ValueError as error:
                # gRPC's word for a channel that this or another thread has closed.
                raise CallError(
                    Code.CANCELLED, "The client is closed.", what, attempt
                ) from error
            bound = self.first_wait_seconds * 2 ** (attempt - 1)
            # Random, so that clients which failed together do not come back together.
            wait = random.uniform(0, min(bound, self.most_wait_seconds))
            is_last = attempt == self.attempts or time.monotonic() + wait >= deadline
            if failed.code is not Code.UNAVAILABLE or is_last:
                raise failed
            time.sleep(wait)
            attempt += 1


def _predict_of(model: str) -> str:
    return f"Predict of model {model!r}"
