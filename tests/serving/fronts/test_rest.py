"""The REST API over a real socket: paths, codes, forms of JSON, browsers."""

import base64
import gzip
import http.client
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from served import example, free_port, rest, running, save, save_any

from serving.errors import ServingError
from serving.status_codes import Code

PREDICT = "/v1/models/m:predict"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("rest") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    return base


@pytest.fixture(scope="module")
def server(base):
    with running(model_base_path=str(base), max_json_bytes=100_000) as server:
        yield server


@pytest.mark.parametrize(
    "code, status",
    {
        "INVALID_ARGUMENT": 400,
        "FAILED_PRECONDITION": 400,
        "OUT_OF_RANGE": 400,
        "UNAUTHENTICATED": 401,
        "PERMISSION_DENIED": 403,
        "NOT_FOUND": 404,
        "ALREADY_EXISTS": 409,
        "ABORTED": 409,
        "RESOURCE_EXHAUSTED": 429,
        "CANCELLED": 499,
        "UNKNOWN": 500,
        "INTERNAL": 500,
        "DATA_LOSS": 500,
        "UNIMPLEMENTED": 501,
        "UNAVAILABLE": 503,
        "DEADLINE_EXCEEDED": 504,
    }.items(),
)
def test_every_status_has_its_http_code(server, monkeypatch, code, status):
    def fail(_):
        raise ServingError(Code[code], "as told")

    monkeypatch.setitem(server.service._answers, "GetModelStatus", fail)
    assert rest(server, "GET", "/v1/models/m") == (status, {"error": "as told"})


def test_an_exception_is_internal(server, monkeypatch, capsys):
    def fail(_):
        raise KeyError("oops")

    monkeypatch.setitem(server.service._answers, "GetModelStatus", fail)
    answered = rest(server, "GET", "/v1/models/m")
    assert answered == (500, {"error": "KeyError: 'oops'"})
    assert "Traceback" in capsys.readouterr().err


def test_memory_that_there_is_not_is_the_requests_matter(server, monkeypatch):
    def fail(_):
        raise MemoryError

    monkeypatch.setitem(server.service._answers, "GetModelStatus", fail)
    answered = rest(server, "GET", "/v1/models/m")
    assert answered == (429, {"error": "Out of memory for this request"})


def _closed_queue(name: str) -> tuple[tf.Tensor, list]:
    queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32], shared_name=name)
    return queue, [tf.raw_ops.QueueCloseV2(handle=queue)]


def _cancelled(x):
    queue, closed = _closed_queue("to write to")
    with tf.control_dependencies(closed):
        sent = tf.raw_ops.QueueEnqueueV2(handle=queue, components=[x])
    with tf.control_dependencies([sent]):
        return tf.identity(x)


def _out_of_range(x):
    queue, closed = _closed_queue("to read from")
    with tf.control_dependencies(closed):
        (value,) = tf.raw_ops.QueueDequeueV2(handle=queue, component_types=[tf.float32])
        return x + value


def _already_exists(x):
    one, two = (
        tf.raw_ops.TemporaryVariable(shape=[1], dtype=tf.float32, var_name="v")
        for _ in range(2)
    )
    return x + one + two


def _length(text):
    return tf.cast(tf.strings.length(text), tf.float32)


def _read(prefix: str):
    return lambda x: _length(tf.io.read_file(prefix + tf.as_string(x[0])))


FAILING = {
    "cancelled": (_cancelled, 499, "is closed"),
    "out_of_range": (_out_of_range, 400, "insufficient elements"),
    "already_exists": (_already_exists, 409, "Resource"),
    "data_loss": (
        lambda x: x + _length(tf.io.decode_compressed(b"garbage", "ZLIB")),
        500,
        "inflate() failed",
    ),
    "unimplemented": (_read("nosuch://"), 501, "File system scheme 'nosuch'"),
    "not_found": (_read("/nowhere/"), 404, "No such file"),
    "invalid": (
        lambda x: tf.debugging.check_numerics(x * math.inf, "too large"),
        400,
        "too large",
    ),
}


@pytest.fixture(scope="module")
def failing(tmp_path_factory):
    """A model whose signatures fail in TensorFlow with different statuses."""
    folder = tmp_path_factory.mktemp("failing")

    def signature(compute):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "x")])
        def call(x):
            return {"y": compute(x)}

        return call

    made = {name: signature(compute) for name, (compute, *_) in FAILING.items()}
    save_any(folder / "1", tf.Module(), made)
    with running(model_base_path=str(folder)) as server:
        yield server


@pytest.mark.parametrize("name", FAILING)
def test_what_tensorflow_fails_with_is_answered(failing, name):
    _, status, message = FAILING[name]
    body = {"signature_name": name, "inputs": [1.0]}
    code, answered = rest(failing, "POST", PREDICT, body)
    assert code == status
    assert message in answered["error"]


def test_a_call_that_takes_too_long_is_timed_out(base):
    (base.parent / "batching.txt").write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 600000 }"
    )
    flags = {
        "model_base_path": str(base),
        "enable_batching": True,
        "batching_parameters_file": str(base.parent / "batching.txt"),
    }
    body = {"instances": [[1, 2, 3]]}
    with running(rest_api_timeout_in_ms=100, **flags) as server:
        answered = rest(server, "POST", PREDICT, body)
        assert answered == (504, {"error": "Timed out"})
        assert rest(server, "GET", "/v1/models/m")[0] == 200
    with running(rest_api_timeout_in_ms=20_000, **flags) as server:
        assert rest(server, "POST", PREDICT, body)[0] == 200


def test_rows_and_columns(server):
    filled = {"instances": [{"x": [1, 2, 3]}, {"x": [0, 0, 1]}]}
    status, answered = rest(server, "POST", PREDICT, filled)
    assert (status, answered) == (
        200,
        {
            "predictions": [
                {"y": 12.0, "name_bytes": {"b64": "MTI="}},
                {"y": 2.0, "name_bytes": {"b64": "Mg=="}},
            ]
        },
    )
    # A single input needs no name.
    assert rest(server, "POST", PREDICT, {"instances": [[1, 2, 3], [0, 0, 1]]}) == (
        status,
        answered,
    )
    outputs = {"y": [1.0], "name_bytes": [{"b64": "MQ=="}]}
    for inputs in ({"x": [[0.5, 0, 0]]}, [[0.5, 0, 0]]):
        answered = rest(server, "POST", PREDICT, {"inputs": inputs})
        assert answered == (200, {"outputs": outputs})


def test_a_single_output_drops_its_name_and_bytes_come_as_base64(server):
    serialized = example(1, 2, 3).SerializeToString()
    value = {"b64": base64.b64encode(serialized).decode()}
    for form, expected in (
        ({"instances": [value, value]}, {"predictions": [[12.0], [12.0]]}),
        ({"instances": [{"inputs": value}]}, {"predictions": [[12.0]]}),
        ({"inputs": [value]}, {"outputs": [[12.0]]}),
        ({"inputs": {"inputs": [value]}}, {"outputs": [[12.0]]}),
    ):
        body = form | {"signature_name": "regress"}
        assert rest(server, "POST", PREDICT, body) == (200, expected)


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_json_lacks_are_bare_words_both_ways(server, word):
    body = f'{{"instances": [[{word}, 0, 0]]}}'
    connection = http.client.HTTPConnection("localhost", server.rest.port, timeout=20)
    connection.request("POST", PREDICT, body)
    text = connection.getresponse().read().decode()
    connection.close()
    assert f'"y": {word}' in text
    (row,) = json.loads(text)["predictions"]
    assert np.isnan(row["y"]) if word == "NaN" else row["y"] == float(word)


def test_packed_bodies_are_unpacked(server):
    body = gzip.compress(b'{"inputs": [[1, 2, 3]]}')
    headers = {"Content-Encoding": "gzip"}
    status, answered = rest(server, "POST", PREDICT, body, headers)
    assert (status, answered["outputs"]["y"]) == (200, [12.0])


@pytest.mark.parametrize(
    "body, message",
    [
        ("{", "JSON Parse error: "),
        ("[" * 90_000, "JSON Parse error: "),
        ("[1]", "JSON Value: the request is not an object"),
        ("{}", "Missing 'inputs' or 'instances' key"),
        (
            {"instances": [], "inputs": []},
            "Request must have exactly one of the keys 'instances' and 'inputs'",
        ),
        ({"instances": []}, "'instances' must be a list with at least one value"),
        ({"instances": [["a"]]}, "input x: expected DT_FLOAT, received "),
        ({"instances": [[1], [1, 2]]}, "input x: lists of unequal lengths or depths"),
        (
            {"instances": [{"x": [1, 2, 3]}, {"z": [1]}]},
            "instances[1] has the inputs ['z']; instances[0] has ['x']",
        ),
        (
            {"instances": [{"x": [1, 2, 3]}, [1, 2, 3]]},
            "'instances' must be all objects or all values",
        ),
        (
            {"signature_name": 1, "instances": [[1, 2, 3]]},
            "'signature_name' key must be a string value.",
        ),
    ],
)
def test_bodies_that_are_refused(server, body, message):
    status, answered = rest(server, "POST", PREDICT, body)
    assert status == 400
    assert answered["error"].startswith(message)


def test_a_body_that_is_too_large_is_refused(server):
    body = {"instances": [[1, 2, 3]], "more": "x" * 100_000}
    answered = rest(server, "POST", PREDICT, body)
    assert answered == (429, {"error": "The request is too large"})
    # It is its size when it is unpacked that counts.
    packed = gzip.compress(json.dumps(body).encode())
    answered = rest(server, "POST", PREDICT, packed, {"Content-Encoding": "gzip"})
    assert answered == (429, {"error": "The request is too large"})


@pytest.mark.parametrize(
    "verb, path",
    [
        ("GET", "/v1"),
        ("GET", "/v1/nothing"),
        ("GET", "/v1/models/m:predict"),
        ("GET", "/v1/models/m/versions/x"),
        ("GET", "/v1/models/m/metadata/more"),
        ("POST", "/v1/models/m"),
        ("POST", "/v1/models/m/metadata"),
        ("POST", "/v1/models/m:multi"),
        ("POST", "/v1/models/m/versions/1/labels/a:predict"),
        ("PUT", "/v1/models/m:predict"),
        ("DELETE", "/v1/models/m"),
        ("OPTIONS", "/v1/models/m:predict"),
    ],
)
def test_malformed_paths(server, verb, path):
    answered = rest(server, verb, path, "{}" if verb == "POST" else None)
    assert answered == (400, {"error": f"Malformed request: {verb} {path}"})


def test_other_paths_are_not_found(server):
    assert rest(server, "GET", "/x") == (404, {"error": "Not found: /x"})


def _headers(server, verb: str, path: str, body=None) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("localhost", server.rest.port, timeout=20)
    connection.request(verb, path, body, {"Origin": "http://elsewhere"})
    response = connection.getresponse()
    response.read()
    connection.close()
    return response.status, dict(response.getheaders())


def test_browsers_elsewhere_are_let_in_with_the_flag(base, server):
    allowed = {
        "Access-Control-Allow-Origin": "*",
        "Access-Control-Allow-Methods": "GET, POST, OPTIONS",
        "Access-Control-Allow-Headers": "Content-Type",
    }
    asked = [
        ("OPTIONS", PREDICT, None, 200),
        ("POST", PREDICT, '{"instances": [[1, 2, 3]]}', 200),
        ("POST", PREDICT, "{", 400),
        ("GET", "/v1/models/m", None, 200),
    ]
    with running(
        model_base_path=str(base), rest_api_enable_cors_support=True
    ) as open_server:
        for verb, path, body, expected in asked:
            status, headers = _headers(open_server, verb, path, body)
            assert status == expected
            assert allowed.items() <= headers.items()
    for verb, path, body, _ in asked[1:]:
        _, headers = _headers(server, verb, path, body)
        assert not allowed.keys() & headers.keys()


def test_it_answers_over_rest_alone(base):
    port = free_port()
    with running(model_base_path=str(base), port=0, rest_api_port=port) as server:
        assert server.grpc is None
        status, answered = rest(server, "POST", PREDICT, {"inputs": [[1, 2, 3]]})
        assert (status, answered["outputs"]["y"]) == (200, [12.0])
