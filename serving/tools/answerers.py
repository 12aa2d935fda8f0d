"""What can answer a recorded request: a server, a SavedModel's folder, the record."""

import abc
import sys

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from serving.api.predict import run_predict
from serving.client import Client
from serving.command import UserError
from serving.connection import Connection
from serving.errors import ServingError
from serving.memory_limits import MemoryLimits
from serving.models.saved_model import load_saved_model
from serving.models.version_files import VersionFiles
from serving.predict_messages import read_prediction
from serving.status_codes import Code
from serving.tools.answerer_names import FORMS, ServedName

# The requests are the user's own.
_NO_LIMITS = MemoryLimits(tensor_bytes=sys.maxsize, memory_bytes=sys.maxsize)


class Answerer(abc.ABC):
    """Answers recorded requests."""

    @abc.abstractmethod
    def outputs(self, log: prediction_log_pb2.PredictLog) -> dict[str, np.ndarray]:
        """The outputs it computes, alias -> array. Raises ServingError if it cannot."""

    @abc.abstractmethod
    def close(self) -> None:
        """Gives back what it holds."""


class _Server(Answerer):
    def __init__(self, name: ServedName, connection: Connection, seconds: float):
        self._client = Client(connection, timeout_seconds=seconds)
        self._model, self._version = name.model, name.version
        self._label = name.label
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
    name: ServedName | str, *, tls: Connection, timeout_seconds: float = 60.0
) -> Answerer:
    """The answerer of that name, ready to be asked.

    Args:
        name: what `parse_answerer` made of a command's argument.
        tls: TLS files to reach a server with.
        timeout_seconds: deadline of each call to a server.

    Raises:
        UserError: there is no such folder.
        ServingError: the server or the SavedModel does not do.
    """
    if isinstance(name, ServedName):
        connection = Connection(name.server, tls.ca, tls.key, tls.certificate)
        return _Server(name, connection, timeout_seconds)
    if name == "logged":
        return _Logged()
    if not tf.io.gfile.exists(f"{name.rstrip('/')}/saved_model.pb"):
        raise UserError(
            f"{name!r} is no SavedModel's folder; expected {FORMS}. Received: {name!r}"
        )
    return _Folder(name)
