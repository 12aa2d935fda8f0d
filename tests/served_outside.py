"""A server in a process of its own, started and asked as any client would.

Nothing of `serving` is used here but its command line.
"""

import contextlib
import http.client
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping

from google.protobuf import text_format
from served import ROOT, channel_to, free_port, wait_for
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)
from tensorflow_serving.config import model_server_config_pb2

_IS_UP = "Serving after"


class Outside:
    """A server that was told `flags`; it may still be loading, or have ended.

    Args:
        flags: name -> value; ports of its own are added unless they are there.
        folder: the process's current folder.
        environment: beside that of this process.
    """

    def __init__(
        self,
        flags: Mapping[str, object],
        folder: str | pathlib.Path | None = None,
        environment: Mapping[str, str] | None = None,
    ):
        flags = {"port": free_port(), "rest_api_port": free_port()} | dict(flags)
        self.port, self.rest_port = flags["port"], flags["rest_api_port"]
        file, log = tempfile.mkstemp(prefix="served-outside-")
        self._log = pathlib.Path(log)
        paths = [str(ROOT), *(environment or {}).get("PYTHONPATH", "").split(":")]
        own = {"PYTHONPATH": ":".join(filter(None, paths))}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.server", *map(_flag, flags.items())],
            stdout=file,
            stderr=file,
            cwd=folder,
            env=os.environ | dict(environment or {}) | own,
        )
        os.close(file)
        self._channel = channel_to(self.port)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(
            self._channel
        )
        self.models = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def said(self) -> str:
        """What it has printed so far."""
        return self._log.read_text(errors="replace")

    def is_up(self) -> bool:
        """Whether it says that it serves. Raises AssertionError if it has ended."""
        assert not self.has_ended(), self.said()
        return _IS_UP in self.said()

    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self.process.poll() is not None

    def ask(self, verb: str, path: str, body=None, **headers: str) -> tuple:
        """HTTP status, and the JSON or text."""
        status, _, text = self.ask_raw(verb, path, body, **headers)
        return status, json.loads(text) if text.startswith(b"{") else text.decode()

    def ask_raw(self, verb: str, path: str, body=None, **headers: str) -> tuple:
        """HTTP status, headers and body."""
        connection = http.client.HTTPConnection("localhost", self.rest_port, timeout=20)
        if body is not None and not isinstance(body, (bytes, str)):
            body = json.dumps(body)
        with contextlib.closing(connection):
            connection.request(verb, path, body, headers)
            response = connection.getresponse()
            return response.status, dict(response.getheaders()), response.read()

    def post(self, model: str, body, method: str = "predict") -> tuple:
        """HTTP status, and the JSON, of a call of `model`."""
        return self.ask("POST", f"/v1/models/{model}:{method}", body)

    def metrics(self) -> str:
        """The page for Prometheus."""
        return self.ask("GET", "/monitoring/prometheus/metrics")[1]

    def states(self, name: str) -> dict[int, int]:
        """Version -> state."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        response = self.models.GetModelStatus(request, timeout=20)
        return {
            status.version: status.state for status in response.model_version_status
        }

    def end(self) -> int:
        """Ends it if it still runs; the process's code."""
        self._channel.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self._log.unlink(missing_ok=True)
        return self.process.returncode


@contextlib.contextmanager
def starting(folder=None, environment=None, **flags) -> Iterator[Outside]:
    """A server that has just been started; see `Outside`."""
    server = Outside(flags, folder, environment)
    try:
        yield server
    finally:
        server.end()


@contextlib.contextmanager
def serving(folder=None, environment=None, **flags) -> Iterator[Outside]:
    """A server that serves; see `Outside`."""
    with starting(folder, environment, **flags) as server:
        wait_for(server.is_up, 90)
        yield server


def refused(**flags) -> tuple[int, str]:
    """The code and the words with which a server ends that must not start."""
    with starting(**flags) as server:
        # One that serves does not end: no need to wait for it.
        wait_for(lambda: server.has_ended() or _IS_UP in server.said(), 90)
        assert server.has_ended(), f"It serves, and says: {server.said()}"
        return server.process.returncode, server.said()


def model_config(name: str, base_path: str | pathlib.Path, more: str = "") -> str:
    """One model of a ModelServerConfig, as text."""
    return f'config {{ name: "{name}" base_path: "{base_path}" {more} }}'


def model_configs(*configs: str) -> str:
    """A ModelServerConfig of these models, as text."""
    return f"model_config_list {{ {' '.join(configs)} }}"


class Reloads:
    """A server whose models are set by HandleReloadConfigRequest.

    Args:
        server: the server.
        folder: a test's own.
        home: text config of the model that is always there.
    """

    def __init__(self, server, folder: pathlib.Path, home: str):
        self.server, self.folder, self.home = server, folder, home

    def load(self, *configs: str, metric_names=(), seconds: float = 30):
        """The response to a reload: these models beside half_plus_two."""
        asked = model_management_pb2.ReloadConfigRequest(metric_names=metric_names)
        asked.config.CopyFrom(_parsed(model_configs(self.home, *configs)))
        return self.server.models.HandleReloadConfigRequest(asked, timeout=seconds)


def _parsed(text: str) -> model_server_config_pb2.ModelServerConfig:
    return text_format.Parse(text, model_server_config_pb2.ModelServerConfig())


def _flag(flag: tuple[str, object]) -> str:
    name, value = flag
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"
