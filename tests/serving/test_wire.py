"""Large requests: their tensors' contents and the message go apart."""

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import message
from served import Code, fails, predicting, running, save
from tensorflow_serving.apis import predict_pb2

from serving import tensors, wire
from serving.client import Client
from serving.predict_messages import predict_request

ROWS = wire.LARGE // 8 + 1


def made(**inputs: np.ndarray) -> predict_pb2.PredictRequest:
    request = predict_request(
        "m", inputs, signature="s", version=3, outputs=["first", "second"]
    )
    request.inputs["small"].CopyFrom(tf.make_tensor_proto([1.5]))
    return request


@pytest.fixture
def request_of_two():
    x = np.arange(2.0 * ROWS).reshape(2, ROWS)
    return made(x=x, y=np.arange(ROWS, dtype=np.int64))


def test_contents_are_taken_out_and_the_rest_stays(request_of_two):
    data, contents = wire.take_contents(request_of_two.SerializeToString())
    assert {alias: bytes(content) for alias, content in contents.items()} == {
        alias: request_of_two.inputs[alias].tensor_content for alias in ("x", "y")
    }
    assert len(data) < 300
    rest = predict_pb2.PredictRequest.FromString(data)
    for alias in contents:
        request_of_two.inputs[alias].ClearField("tensor_content")
    assert rest == request_of_two


def test_contents_are_put_in_again(request_of_two):
    data, contents = wire.take_contents(request_of_two.SerializeToString())
    joined = wire.join_contents(
        predict_pb2.PredictRequest.FromString(data),
        {
            alias: np.frombuffer(content, np.uint8)
            for alias, content in contents.items()
        },
    )
    assert predict_pb2.PredictRequest.FromString(joined) == request_of_two


@pytest.mark.parametrize("dtype", [np.float64, np.int64, np.complex64, bool, ">f8"])
def test_an_array_goes_over_the_wire(dtype):
    array = np.arange(ROWS * 8).reshape(8, ROWS).astype(dtype)
    request = made()
    content = tensors.fill_apart(request.inputs["x"], array)
    data, contents = wire.take_contents(wire.join_contents(request, {"x": content}))
    rest = predict_pb2.PredictRequest.FromString(data)
    received = tensors.from_proto("x", rest.inputs["x"], content=contents["x"])
    np.testing.assert_array_equal(received, array)
    assert received.ctypes.data % 64 == 0  # So that TensorFlow takes it as it is.


def test_small_arrays_and_strings_stay_in_the_message():
    request = made()
    text = np.array([b"a" * wire.LARGE * 2], object)
    assert tensors.fill_apart(request.inputs["text"], text) is None
    assert tensors.fill_apart(request.inputs["x"], np.arange(3)) is None
    assert request.inputs["text"].string_val[0] == text[0]
    np.testing.assert_array_equal(tf.make_ndarray(request.inputs["x"]), np.arange(3))
    data = request.SerializeToString()
    assert wire.take_contents(data) == (data, {})


def _entry(alias: bytes, *tensor: bytes) -> bytes:
    value = b"".join(tensor)
    return wire._field(2, wire._field(1, alias) + wire._field(2, value))


CONTENT = wire._field(4, bytes(wire.LARGE * 2))
DOUBLES, TEXTS = bytes([8, 2]), bytes([8, 7])  # Field 1, DT_DOUBLE and DT_STRING.
LONG_TEXTS = bytes([8, 0x87, 0x80, 0x80, 0x80, 0x10])  # 2^32 + 7.
GROUP = bytes([11])


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(_entry(b"x", DOUBLES, CONTENT) * 2, id="an input twice"),
        pytest.param(
            _entry(b"x", DOUBLES, CONTENT) + _entry(b"x", DOUBLES), id="small later"
        ),
        pytest.param(
            _entry(b"x", DOUBLES) + _entry(b"x", DOUBLES, CONTENT), id="small earlier"
        ),
        pytest.param(_entry(b"x", DOUBLES, CONTENT, CONTENT), id="contents twice"),
        pytest.param(_entry(b"x", LONG_TEXTS, CONTENT), id="strings in 33 bits"),
        pytest.param(_entry(b"x", CONTENT, TEXTS), id="strings"),
        pytest.param(_entry(b"x", DOUBLES, TEXTS, CONTENT), id="strings in the end"),
        pytest.param(_entry(b"\xff", DOUBLES, CONTENT), id="a name that is no text"),
        pytest.param(_entry(b"x", DOUBLES, CONTENT)[:-1], id="cut off"),
        pytest.param(_entry(b"x", GROUP, CONTENT), id="a group"),
        pytest.param(
            _entry(b"x", *[DOUBLES] * 2000, CONTENT), id="thousands of fields"
        ),
        pytest.param(wire._field(2, wire._field(2, DOUBLES + CONTENT)), id="no name"),
        pytest.param(
            wire._field(
                2, wire._field(1, b"x") * 2 + wire._field(2, DOUBLES + CONTENT)
            ),
            id="two names",
        ),
        pytest.param(b"\x80" * wire.LARGE * 2, id="no end of a number"),
        pytest.param(wire._field(1, CONTENT), id="another field"),
    ],
)
def test_what_is_unusual_is_left_to_protobuf(data):
    assert wire.take_contents(data) == (data, {})


def _parsed(data: bytes) -> predict_pb2.PredictRequest | None:
    try:
        return predict_pb2.PredictRequest.FromString(data)
    except message.DecodeError:
        return None


def test_a_damaged_message_means_what_protobuf_says(request_of_two):
    whole, dice = request_of_two.SerializeToString(), np.random.default_rng(0)
    starts = [field[2] for field in wire._fields(memoryview(whole), 0, len(whole))]
    places = [at for start in starts for at in range(start, start + 40)]
    places = [at for at in places if at < len(whole)]
    taken = 0
    for _ in range(2000):
        data = bytearray(whole)
        data[dice.choice(places)] = dice.integers(256)
        rest, contents = wire.take_contents(bytes(data))
        parsed = _parsed(rest)
        for alias, content in contents.items() if parsed else ():
            parsed.inputs[alias].tensor_content = bytes(content)
        assert parsed == _parsed(bytes(data))
        taken += bool(contents)
    assert taken > 200  # Most of them can still be read.


def test_a_large_request_is_answered(tmp_path):
    rows = np.arange(3.0 * ROWS, dtype=np.float32).reshape(-1, 3)
    save(tmp_path / "m" / "1", 2.0)
    with running(model_base_path=str(tmp_path / "m")) as server:
        port = server.grpc.ports[0]
        with Client(f"localhost:{port}") as client:
            answered = client.predict("m", {"x": rows}).outputs["y"]
        np.testing.assert_allclose(answered, 2.0 * rows.sum(axis=1), rtol=1e-6)
        short = predict_request("m", {"x": rows})
        short.inputs["x"].tensor_content = short.inputs["x"].tensor_content[:-4]
        with predicting(port) as stub:
            error = fails(stub.Predict, short)
        assert error == (Code.INVALID_ARGUMENT, "tensor parsing error: x")
