"""What the server's tests share: models to serve, a running server, requests."""

import atexit
import contextlib
import functools
import http.client
import json
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import (
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
)

from serving.fronts.flags import Flags
from serving.model_server import Server

ROOT = pathlib.Path(__file__).parents[1]
Code = grpc.StatusCode


class Model(tf.Module):
    """y = factor * sum(x), and the same for examples that hold an `x`."""

    def __init__(self, factor: float):
        super().__init__()
        self.factor = tf.Variable(factor)

    @tf.function(input_signature=[{"x": tf.TensorSpec([None, 3], tf.float32, "x")}])
    def predict(self, inputs):
        total = self.factor * tf.reduce_sum(inputs["x"], axis=1)
        return {"y": total, "name_bytes": tf.as_string(total, precision=0)}

    def _of_examples(self, examples):
        spec = {"x": tf.io.FixedLenFeature([3], tf.float32)}
        parsed = tf.io.parse_example(examples, spec)["x"]
        return self.factor * tf.reduce_sum(parsed, axis=1, keepdims=True)

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def regress(self, inputs):
        return {"outputs": self._of_examples(inputs)}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
    def classify(self, inputs):
        return {"scores": self._of_examples(inputs)}


def save(folder: pathlib.Path, factor: float, warmup: list | None = None) -> None:
    """Saves a `Model` as the version `folder`, which appears at once.

    Args:
        warmup: requests to record with it.
    """
    aside = folder.parent / f"aside-{folder.name}"
    shutil.copytree(_saved(factor), aside)
    if warmup is not None:
        extra = aside / "assets.extra"
        extra.mkdir()
        with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
            for recorded in warmup:
                log = prediction_log_pb2.PredictionLog()
                log.predict_log.request.CopyFrom(recorded)
                writer.write(log.SerializeToString())
    aside.rename(folder)


@functools.cache
def _saved(factor: float) -> pathlib.Path:
    folder = pathlib.Path(tempfile.mkdtemp(prefix="served-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    model = Model(factor)
    signatures = {
        "serving_default": model.predict,
        "regress": model.regress,
        "classify": model.classify,
    }
    save_any(folder / "model", model, signatures)
    return folder / "model"


def save_any(folder: pathlib.Path, model: tf.Module, signatures: dict) -> None:
    """Saves any model as the version `folder`, which appears at once.

    Signatures named regress... and classify... are of those methods.
    """
    aside = folder.parent / f"aside-{folder.name}"
    tf.saved_model.save(model, str(aside), signatures)
    _name_methods(aside)
    aside.rename(folder)


class Computes(tf.Module):
    """y = compute(self, x), with a variable and whatever else is `held`."""

    def __init__(self, compute, factor: float = 1.0, **held):
        super().__init__()
        self.factor = tf.Variable(factor)
        for name, value in held.items():
            setattr(self, name, value)
        self.predict = tf.function(
            lambda x: {"y": compute(self, x)},
            input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")],
        )


def save_computing(folder: pathlib.Path, compute, *arguments, **held) -> None:
    """Saves a `Computes` as the version `folder`, which appears at once."""
    module = Computes(compute, *arguments, **held)
    save_any(folder, module, {"serving_default": module.predict})


def times(constant: float) -> Callable:
    """factor * constant * sum(x)"""
    return lambda self, x: self.factor * constant * tf.reduce_sum(x, axis=1)


def _name_methods(folder: pathlib.Path) -> None:
    """tf.saved_model.save calls every signature one for Predict."""
    path = folder / "saved_model.pb"
    constants = tf.compat.v1.saved_model.signature_constants
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signatures = model.meta_graphs[0].signature_def
    for key, signature in signatures.items():
        if key.startswith("regress"):
            signature.method_name = constants.REGRESS_METHOD_NAME
        if key.startswith("classify"):
            signature.method_name = constants.CLASSIFY_METHOD_NAME
    path.write_bytes(model.SerializeToString())


def free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("localhost", 0))
        return bound.getsockname()[1]


@contextlib.contextmanager
def running(**flags) -> Iterator[Server]:
    """A server in this process, of model "m" unless told otherwise."""
    if "model_config_file" not in flags:
        flags.setdefault("model_name", "m")
    server = Server(
        Flags(
            **{
                "port": free_port(),
                "rest_api_port": free_port(),
                "file_system_poll_wait_seconds": 0.1,
                "max_num_load_retries": 0,
            }
            | flags
        )
    )
    server.start()
    try:
        yield server
    finally:
        server.stop()


class Process:
    """A server in a process of its own, listening on `port`."""

    def __init__(self, *arguments: str, port: int | None = None):
        self.port = port or free_port()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "serving.server", f"--port={self.port}", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )

    def memory(self) -> int:
        """Bytes that it holds."""
        status = pathlib.Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) << 10

    def end(self) -> str:
        """Kills it if it still runs; what it said."""
        if self.process.poll() is None:
            self.process.kill()
        return self.process.communicate(timeout=60)[1]


@contextlib.contextmanager
def predicting(port: int, **options) -> Iterator:
    """A stub of PredictionService."""
    with channel_to(port, **options) as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


def channel_to(port: int) -> grpc.Channel:
    options = [
        ("grpc.max_send_message_length", -1),
        ("grpc.use_local_subchannel_pool", 1),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 300),
    ]
    return grpc.insecure_channel(f"localhost:{port}", options=options)


def request(x=((1, 2, 3),), **spec) -> predict_pb2.PredictRequest:
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = spec.pop("name", "m")
    if "version" in spec:
        asked.model_spec.version.value = spec.pop("version")
    for name, value in spec.items():
        setattr(asked.model_spec, name, value)
    if x is not None:
        array = np.array(x, np.float32)
        asked.inputs["x"].CopyFrom(tf.make_tensor_proto(array))
    return asked


def answer(response: predict_pb2.PredictResponse, output: str = "y") -> list[float]:
    return list(response.outputs[output].float_val)


def fails(call: Callable, given) -> tuple[Code, str]:
    """Code and message with which it fails."""
    with pytest.raises(grpc.RpcError) as caught:
        call(given, timeout=20)
    return caught.value.code(), caught.value.details()


def rest(server: Server, verb: str, path: str, body=None, headers=None):
    """HTTP status, and the JSON or text."""
    port = server.rest.port
    connection = http.client.HTTPConnection("localhost", port, timeout=20)
    if body is not None and not isinstance(body, (bytes, str)):
        body = json.dumps(body)
    connection.request(verb, path, body, headers or {})
    response = connection.getresponse()
    text = response.read().decode()
    connection.close()
    return response.status, json.loads(text) if text.startswith("{") else text


def example(*x: float) -> tf.train.Example:
    """What the signatures `regress` and `classify` of `Model` take."""
    filled = tf.train.Example()
    if x:
        filled.features.feature["x"].float_list.value.extend(x)
    return filled


@contextlib.contextmanager
def managing(port: int) -> Iterator:
    """A stub of ModelService."""
    with channel_to(port) as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def states(port: int, name: str = "m") -> dict[int, int]:
    """Version -> state."""
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = name
    with managing(port) as stub:
        statuses = stub.GetModelStatus(asked, timeout=20).model_version_status
    return {status.version: status.state for status in statuses}


def wait_for(condition: Callable[[], bool], seconds: float = 30.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def metric(page: str, name: str, **labels: str) -> float:
    """The value of a line of the Prometheus page; 0 if it is not there."""
    shown = ",".join(f'{key}="{value}"' for key, value in labels.items())
    start = f":tensorflow:serving:{name}{{{shown}}} "
    lines = [line for line in page.splitlines() if line.startswith(start)]
    return float(lines[0].removeprefix(start)) if lines else 0.0
