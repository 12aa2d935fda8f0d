"""What can answer a recorded request: a server, a SavedModel's folder, the record."""

import abc
import re
import sys

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.api.predict import run_predict
from serving.client import Client, read_prediction
from serving.command import UserError
from serving.connection import Connection
from serving.errors import ServingError
from serving.memory_limits import MemoryLimits
from serving.models.saved_model import load_saved_model
from serving.models.version_files import VersionFiles
from serving.status_codes import Code

FORMS = (
    "grpc://HOST:PORT/MODEL[/versions/N or /labels/L], a SavedModel's folder, logged"
)

# The requests are the user's own.
_NO_LIMITS = MemoryLimits(tensor_bytes=sys.maxsize, memory_bytes=sys.maxsize)

_URL = re.compile(
    r"grpc://(?P<server>[^/]+)/(?P<model>[^/]+)"
    r"(?:/versions/(?P<version>\d+)|/labels/(?P<label>[^/]+))?"
)


class Answerer(abc.ABC):
    """Answers recorded requests."""

    @abc.abstractmethod
    def outputs(self, log: prediction_log_pb2.PredictLog) -> dict[str, np.ndarray]:
        """What it computes, alias -> array. Raises ServingError if it cannot."""

    @abc.abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""


class _Server(Answerer):
    def __init__(self, found: re.Match, connection: Connection, seconds: float):
        self._client = Client(connection, timeout_seconds=seconds)
        self._model = found["model"]
        self._version = found["version"] and int(found["version"])
        self._label = found["label"]
        # A name that is wrong would otherwise fail every request.
        self._client.signatures(self._model, version=self._version, label=self._label)

    def outputs(self, log) -> dict[str, np.ndarray]:
        request = type(log.request).FromString(log.request.SerializeToString())
        spec = request.model_spec
        spec.name = self._model
        spec.ClearField("version_choice")
        if self._version is not None:
            spec.version.value = self._version
        if self._label is not None:
            spec.version_label = self._label
        return dict(read_prediction(self._client.send(request)).outputs)

    def close(self) -> None:
        self._client.close()


class _Folder(Answerer):
    def __init__(self, path: str):
        files = VersionFiles(path)
        files.check()
        self._model = load_saved_model(files)

    def outputs(self, log) -> dict[str, np.ndarray]:
        return run_predict(self._model, log.request, _NO_LIMITS)

    def close(self) -> None:
        self._model.close()


class _Logged(Answerer):
    def outputs(self, log) -> dict[str, np.ndarray]:
        if not log.HasField("response"):
            raise ServingError(Code.NOT_FOUND, "The record holds no answer.")
        return dict(read_prediction(log.response).outputs)

    def close(self) -> None:
        pass


def open_answerer(
    text: str, *, tls: Connection | None = None, timeout_seconds: float = 60.0
) -> Answerer:
    """The answerer that a command's argument names.

    Args:
        text: one of `FORMS`.
        tls: TLS files to reach a server with.
        timeout_seconds: deadline of a call to it.

    Raises:
        UserError: it is none of them.
        ServingError: the server or the SavedModel does not do.
    """
    if text == "logged":
        return _Logged()
    if text.startswith("grpc://"):
        found = _URL.fullmatch(text)
        if found is None:
            raise UserError(f"Expected {FORMS}. Received: {text!r}")
        tls = tls or Connection(found["server"])
        connection = Connection(found["server"], tls.ca, tls.key, tls.certificate)
        return _Server(found, connection, timeout_seconds)
    if not tf.io.gfile.exists(f"{text.rstrip('/')}/saved_model.pb"):
        raise UserError(
            f"{text!r} is no SavedModel's folder; expected {FORMS}. Received: {text!r}"
        )
    return _Folder(text)
