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

from served import ROOT, channel_to, free_port, wait_for
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    prediction_service_pb2_grpc,
)

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
        assert self.process.poll() is None, self.said()
        return _IS_UP in self.said()

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
        try:
            code = server.process.wait(60)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"It goes on, and says: {server.said()}") from None
        return code, server.said()


def model_config(name: str, base_path: str | pathlib.Path, more: str = "") -> str:
    """One model of a ModelServerConfig, as text."""
    return f'config {{ name: "{name}" base_path: "{base_path}" {more} }}'


def model_configs(*configs: str) -> str:
    """A ModelServerConfig of these models, as text."""
    return f"model_config_list {{ {' '.join(configs)} }}"


def _flag(flag: tuple[str, object]) -> str:
    name, value = flag
    return f"--{name}={str(value).lower() if isinstance(value, bool) else value}"
