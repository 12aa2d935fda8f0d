"""The client against our server, and against one that fails as it is told to."""

import concurrent.futures
import pathlib
import pickle
import subprocess
import threading
import time

import grpc
import numpy as np
import pytest
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from serving.client import CallError, Client
from serving.command import UserError
from serving.connection import Connection
from serving.predict_messages import predict_request, read_tensor

ROOT = pathlib.Path(__file__).parents[2]
Code = grpc.StatusCode
X = np.array([[1, 2, 3], [0, 0, 1]], np.float32)


@pytest.fixture
def client(small_server):
    with Client(small_server) as client:
        yield client


def test_arrays_go_in_and_come_out(client):
    answer = client.predict("small", {"x": X})
    np.testing.assert_array_equal(answer.outputs["score"], [14, 3])
    np.testing.assert_array_equal(answer.outputs["parts"], [[1, 4, 9], [0, 0, 3]])
    assert (answer.version, answer.signature) == (2, "serving_default")


def test_a_version_a_label_and_outputs_can_be_chosen(client):
    assert client.predict("small", {"x": X}, version=1).version == 1
    answer = client.predict("small", {"x": X}, label="stable", outputs=["score"])
    assert answer.version == 1
    assert list(answer.outputs) == ["score"]
    with pytest.raises(ValueError, match=r"version and label: give one\. Received: 1"):
        client.predict("small", {"x": X}, version=1, label="stable")


def test_strings_keep_their_bytes(client):
    name = np.array([[b"a\0\0"], ["ü".encode()]], object)
    inputs = {"ids": np.array([[1, 2], [3, 9]]), "ids_length": np.array([2, 1])}
    answer = client.predict("small", inputs | {"name": name}, signature="ragged")
    assert answer.outputs["total"].tolist() == [3, 3]
    assert answer.outputs["name"].tolist() == [b"a\0\0", "ü".encode()]


def test_a_list_of_strings_keeps_its_last_zeros():
    request = predict_request("m", {"examples": [b"a\0\0", b"bcd\0"]})
    assert list(request.inputs["examples"].string_val) == [b"a\0\0", b"bcd\0"]


def test_numbers_go_over_the_wire_as_bytes():
    proto = predict_request("m", {"x": X}).inputs["x"]
    assert proto.tensor_content == X.tobytes()
    assert not proto.float_val


@pytest.mark.parametrize(
    "values",
    [[[b"one", b""], [b"\xff" * 300, b"x"]], [[1.5, 2.0]], [[3]], [[True, False]]],
    ids=["strings", "floats", "integers", "truths"],
)
def test_answers_in_tensor_content_are_read(values):
    # As TF Serving sends them with --enable_serialization_as_tensor_content.
    array = np.array(values, object if isinstance(values[0][0], bytes) else None)
    proto = tf.make_tensor_proto(array)
    if array.dtype == object:
        flat = array.reshape(-1).tolist()
        proto.tensor_content = b"".join(map(_varint, map(len, flat))) + b"".join(flat)
        del proto.string_val[:]
    np.testing.assert_array_equal(read_tensor(proto), array)


def _varint(number: int) -> bytes:
    encoded = b""
    while number > 0x7F:
        encoded += bytes([number & 0x7F | 0x80])
        number >>= 7
    return encoded + bytes([number])


def test_signatures_and_states(client):
    assert client.states("small") == {1: "AVAILABLE", 2: "AVAILABLE"}
    signatures = client.signatures("small")
    assert set(signatures) == {"serving_default", "serve_examples", "ragged", "which"}
    spec = signatures["serving_default"].inputs["x"]
    assert (spec.dtype, spec.shape.as_list()) == (tf.float32, [None, 3])
    assert signatures["ragged"].outputs["total"].dtype == tf.int64


def test_an_error_carries_code_and_message(client):
    with pytest.raises(CallError) as caught:
        client.predict("other", {"x": X})
    assert caught.value.code is Code.NOT_FOUND
    assert caught.value.message == "Servable not found for request: Latest(other)"
    assert str(caught.value) == (
        f"Predict of model 'other' at {client.connection.target}: NOT_FOUND: "
        "Servable not found for request: Latest(other)"
    )
    with pytest.raises(CallError, match=r"expected DT_FLOAT, received DT_DOUBLE"):
        client.predict("small", {"x": [[1.0, 2.0, 3.0]]})
    with pytest.raises(ValueError, match=r"Input 'x' must be numbers, .* Received"):
        client.predict("small", {"x": np.array([[np.datetime64(0, "s")]])})


class _Failing:
    """A server that answers Predict with each of `codes` in turn, then with OK."""

    def __init__(self, codes=(), seconds=0.0, credentials=None):
        self.codes, self.seconds = list(codes), seconds
        self.calls = []
        self._lock = threading.Lock()
        handler = grpc.unary_unary_rpc_method_handler(
            self._predict,
            predict_pb2.PredictRequest.FromString,
            predict_pb2.PredictResponse.SerializeToString,
        )
        generic = grpc.method_handlers_generic_handler(
            "tensorflow.serving.PredictionService", {"Predict": handler}
        )
        self.server = grpc.server(concurrent.futures.ThreadPoolExecutor(8))
        self.server.add_generic_rpc_handlers([generic])
        if credentials is None:
            self.port = self.server.add_insecure_port("localhost:0")
        else:
            self.port = self.server.add_secure_port("localhost:0", credentials)

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *_):
        self.server.stop(None)

    def _predict(self, request, context):
        with self._lock:
            self.calls.append((context.peer(), context.time_remaining()))
            code = self.codes.pop(0) if self.codes else None
        time.sleep(self.seconds)
        if code is not None:
            context.abort(code, "as told")
        return predict_pb2.PredictResponse(model_spec=request.model_spec)


def test_unavailable_is_tried_again_over_the_same_connection():
    with _Failing([Code.UNAVAILABLE] * 3) as failing:
        with Client(f"localhost:{failing.port}") as client:
            client.predict("m", {})
            client.predict("m", {})
        assert len(failing.calls) == 5
        assert len({peer for peer, _ in failing.calls}) == 1


@pytest.mark.parametrize("code", [Code.INTERNAL, Code.RESOURCE_EXHAUSTED])
def test_nothing_else_is_tried_again(code):
    with _Failing([code]) as failing:
        client = Client(f"localhost:{failing.port}")
        with client, pytest.raises(CallError, match=f"{code.name}: as told"):
            client.predict("m", {})
        assert len(failing.calls) == 1


def test_attempts_are_bounded():
    with _Failing([Code.UNAVAILABLE] * 9) as failing:
        client = Client(f"localhost:{failing.port}", attempts=3)
        with client, pytest.raises(CallError, match="UNAVAILABLE after 3 attempts: as"):
            client.predict("m", {})
        assert len(failing.calls) == 3


def test_waits_are_random_and_their_bound_doubles(monkeypatch):
    bounds = []
    monkeypatch.setattr(
        "serving.client.random.uniform",
        lambda low, high: bounds.append((low, high)) or 0.0,
    )
    with _Failing([Code.UNAVAILABLE] * 7) as failing:
        with Client(f"localhost:{failing.port}", attempts=8) as client:
            client.predict("m", {})
        assert len(failing.calls) == 8
    assert bounds == [(0, bound) for bound in (0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0)]


def test_the_deadline_bounds_all_attempts_together():
    codes = [Code.UNAVAILABLE] * 50
    with _Failing(codes, seconds=0.1) as failing:
        target = f"localhost:{failing.port}"
        with Client(target, attempts=50, timeout_seconds=0.5) as client:
            started = time.monotonic()
            with pytest.raises(CallError):
                client.predict("m", {})
            assert time.monotonic() - started < 2
        left = [seconds for _, seconds in failing.calls]
        assert 2 <= len(left) < 7
        assert left == sorted(left, reverse=True)
        assert left[0] <= 0.5


def test_a_slow_answer_exceeds_the_deadline():
    with _Failing(seconds=1.0) as failing:
        client = Client(f"localhost:{failing.port}")
        with client, pytest.raises(CallError) as caught:
            client.predict("m", {}, timeout_seconds=0.1)
        assert caught.value.code is Code.DEADLINE_EXCEEDED


def test_a_server_that_starts_late_is_waited_for():
    with _Failing() as failing:
        port = failing.port
    late = _Failing()
    with Client(f"localhost:{port}", attempts=50, timeout_seconds=20) as client:

        def start():
            time.sleep(0.5)
            late.server.add_insecure_port(f"localhost:{port}")
            late.server.start()

        thread = threading.Thread(target=start)
        thread.start()
        try:
            client.predict("m", {})
        finally:
            thread.join()
            late.server.stop(None)
    assert len(late.calls) == 1


def _certificate(folder, name: str) -> tuple[str, str]:
    """Files of a key and of its certificate, signed by itself."""
    key, certificate = str(folder / f"{name}.key"), str(folder / f"{name}.pem")
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-nodes"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", f"/CN={name}"),
            *("-addext", "subjectAltName=DNS:localhost"),
            *("-keyout", key, "-out", certificate),
        ],
        check=True,
        capture_output=True,
    )
    return key, certificate


def test_tls_of_both_sides(tmp_path):
    key, own = _certificate(tmp_path, "server")
    client_key, client_own = _certificate(tmp_path, "client")
    server_key, server_own, trusted = (
        pathlib.Path(path).read_bytes() for path in (key, own, client_own)
    )
    credentials = grpc.ssl_server_credentials(
        [(server_key, server_own)], trusted, require_client_auth=True
    )
    with _Failing(credentials=credentials) as server:
        target = f"localhost:{server.port}"
        with Client(Connection(target, own, client_key, client_own)) as client:
            client.predict("m", {})
        strangers = Connection(target), Connection(target, own)
        for stranger in (*strangers, Connection(target, client_own, key, own)):
            client = Client(stranger, attempts=1)
            with client, pytest.raises(CallError, match="UNAVAILABLE"):
                client.predict("m", {})
    assert len(server.calls) == 1


def test_a_closed_client_says_so(small_server):
    client = Client(small_server)
    client.close()
    with pytest.raises(CallError, match="CANCELLED: The client is closed"):
        client.predict("small", {"x": X})


def test_errors_and_connections_reach_other_processes():
    error = CallError(Code.UNAVAILABLE, "m", "Predict", 2)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    one = Connection("localhost:1", ca="a.pem")
    assert pickle.loads(pickle.dumps(one)) == one


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"target": "localhost"}, "must be HOST:PORT or unix:PATH. Received: 'local"),
        ({"target": "a:b"}, "must be HOST:PORT or unix:PATH. Received: 'a:b'"),
        ({"target": "a:1", "key": "k"}, "--client-key and --client-certificate go"),
        (
            {"target": "a:1", "key": "k", "certificate": "c"},
            "--client-key needs --ca: without it nothing is encrypted",
        ),
    ],
)
def test_addresses_that_are_refused(settings, text):
    with pytest.raises(UserError, match=text):
        Connection(**settings)


def test_a_missing_certificate_is_named(tmp_path):
    with pytest.raises(UserError, match=r"no\.pem: No such file"):
        Client(Connection("localhost:1", ca=str(tmp_path / "no.pem")))


@pytest.mark.parametrize(
    "settings, text",
    [
        ({"attempts": 0}, "attempts must be at least 1. Received: 0"),
        ({"timeout_seconds": 0}, "timeout_seconds must be positive. Received: 0"),
    ],
)
def test_settings_that_are_refused(settings, text):
    with pytest.raises(ValueError, match=text):
        Client("localhost:1", **settings)
