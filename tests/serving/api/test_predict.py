"""Predict over real sockets: gRPC status and message, REST code and JSON."""

import numpy as np
import pytest
import tensorflow as tf
from served import (
    Code,
    answer,
    channel_to,
    example,
    fails,
    predicting,
    request,
    rest,
    running,
    save,
    save_any,
)
from tensorflow_serving.apis import predict_pb2


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("predict") / "m"
    base.mkdir()
    save(base / "001", 2.0)
    (base / "not-a-version").mkdir()
    return base


@pytest.fixture(scope="module")
def server(base):
    config = base.parent / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" '
        'model_platform: "tensorflow" version_labels { key: "stable" value: 1 } } }'
    )
    with running(model_config_file=str(config)) as server:
        yield server


@pytest.fixture
def stub(server):
    with predicting(server.grpc.ports[0]) as stub:
        yield stub


@pytest.mark.parametrize(
    "spec, signature",
    [
        ({}, "serving_default"),
        ({"version": 1, "signature_name": "serving_default"}, "serving_default"),
        ({"version_label": "stable"}, "serving_default"),
    ],
)
def test_predict_answers_with_the_version_that_did(stub, spec, signature):
    response = stub.Predict(request([[1, 2, 3], [0, 0, 1]], **spec))
    assert answer(response) == [12.0, 2.0]
    assert list(response.outputs["name_bytes"].string_val) == [b"12", b"2"]
    assert response.model_spec.name == "m"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == signature
    assert not response.outputs["y"].tensor_content


def test_the_signature_that_answered_is_named(stub):
    asked = request(None, signature_name="regress")
    serialized = example(1, 2, 3).SerializeToString()
    asked.inputs["inputs"].CopyFrom(tf.make_tensor_proto([serialized]))
    response = stub.Predict(asked)
    assert response.model_spec.signature_name == "regress"
    assert answer(response, "outputs") == [12.0]


def test_outputs_come_as_bytes_with_the_flag(base):
    with (
        running(
            model_base_path=str(base), enable_serialization_as_tensor_content=True
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        outputs = stub.Predict(request([[1, 2, 3], [0, 0, 1]])).outputs
        assert outputs["y"].tensor_content == np.float32([12, 2]).tobytes()
        assert not outputs["y"].float_val
        # Strings have no such form that all clients read.
        assert list(outputs["name_bytes"].string_val) == [b"12", b"2"]
        path = "/v1/models/m:predict"
        _, answered = rest(server, "POST", path, {"instances": [[1, 2, 3]]})
        assert answered["predictions"][0]["y"] == 12.0


def test_inputs_come_in_every_form(stub):
    asked = request(None)
    proto = asked.inputs["x"]
    proto.dtype = tf.float32.as_datatype_enum
    for size in (2, 3):
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.append(1.0)  # one value stands for all
    assert answer(stub.Predict(asked)) == [6.0, 6.0]
    proto.float_val.append(2.0)  # the last one for the rest
    assert answer(stub.Predict(asked)) == [10.0, 12.0]
    del proto.float_val[:]
    proto.tensor_content = np.arange(6, dtype=np.float32).tobytes()
    assert answer(stub.Predict(asked)) == [6.0, 24.0]


def test_an_output_filter_picks(stub):
    asked = request()
    asked.output_filter.append("y")
    assert list(stub.Predict(asked).outputs) == ["y"]


def _inputs(**inputs) -> predict_pb2.PredictRequest:
    asked = request(None)
    for name, value in inputs.items():
        asked.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    return asked


def _outputs(*names: str) -> predict_pb2.PredictRequest:
    asked = request()
    asked.output_filter.extend(names)
    return asked


def _cut_off() -> predict_pb2.PredictRequest:
    asked = _inputs(x=np.ones([2, 3], np.float32))
    asked.inputs["x"].tensor_content = b"abc"
    return asked


ROW = np.ones([1, 3], np.float32)
# What TensorFlow says of a sum over the second of one dimension.
NO_ROWS = "Invalid reduction dimension (1 for input with 1 dimension(s)"
BAD_PREDICT = {
    "no spec": (
        predict_pb2.PredictRequest(),
        Code.INVALID_ARGUMENT,
        "Missing ModelSpec",
    ),
    "no name": (
        request(name="", signature_name="x"),
        Code.INVALID_ARGUMENT,
        "ModelSpec has no name specified.",
    ),
    "unknown model": (
        request(name="foo"),
        Code.NOT_FOUND,
        "Servable not found for request: Latest(foo)",
    ),
    "unknown version": (
        request(version=99),
        Code.NOT_FOUND,
        "Servable not found for request: Specific(m, 99)",
    ),
    "version of an unknown model": (
        request(name="foo", version=99),
        Code.NOT_FOUND,
        "Servable not found for request: Specific(foo, 99)",
    ),
    "unknown label": (
        request(version_label="X"),
        Code.INVALID_ARGUMENT,
        "Unrecognized servable version label: X",
    ),
    "unknown signature": (
        request(signature_name="X"),
        Code.FAILED_PRECONDITION,
        'Serving signature key "X" not found.',
    ),
    "too many inputs": (
        _inputs(x=ROW, z=ROW),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
        "Sent extra: {z}. Missing but required: {}.",
    ),
    "no input": (
        _inputs(),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 0!=1 len({}) != len({x}). "
        "Sent extra: {}. Missing but required: {x}.",
    ),
    "another input": (
        _inputs(z=[1.0]),
        Code.INVALID_ARGUMENT,
        "Signature input alias: x(feed name: serving_default_x:0) not found in request "
        "and no default value provided. Inputs expected to be in the set {x}.",
    ),
    "cut-off content": (
        _cut_off(),
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "wrong dtype": (
        _inputs(x=[[1, 2, 3]]),
        Code.INVALID_ARGUMENT,
        "input x has the wrong dtype: expected DT_FLOAT, received DT_INT32",
    ),
    "a shape that the graph refuses": (
        request([1, 2, 3]),
        Code.INVALID_ARGUMENT,
        f"input x has the wrong shape: expected [?,3], received [3]. {NO_ROWS}",
    ),
    "unknown output": (
        _outputs("q"),
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: q Outputs expected to be in the "
        "set {name_bytes,y}.",
    ),
    "output twice": (
        _outputs("y", "y"),
        Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: y",
    ),
    "a long message": (
        request(signature_name="X" * 2000),
        Code.FAILED_PRECONDITION,
        f'Serving signature key "{"X" * 989}...TRUNCATED',
    ),
}


@pytest.mark.parametrize("case", BAD_PREDICT)
def test_what_predict_refuses(stub, case):
    asked, code, message = BAD_PREDICT[case]
    assert fails(stub.Predict, asked) == (code, message)


INSTANCES = {"instances": [[1, 2, 3]]}
BAD_JSON = {
    "no name": (
        "/v1/models/:predict",
        INSTANCES,
        400,
        "Malformed request: POST /v1/models/:predict",
    ),
    "unknown model": (
        "/v1/models/foo:predict",
        INSTANCES,
        404,
        "Servable not found for request: Latest(foo)",
    ),
    "unknown version": (
        "/v1/models/m/versions/99:predict",
        INSTANCES,
        404,
        "Servable not found for request: Specific(m, 99)",
    ),
    "unknown label": (
        "/v1/models/m/labels/X:predict",
        INSTANCES,
        400,
        "Unrecognized servable version label: X",
    ),
    "unknown signature": (
        "/v1/models/m:predict",
        INSTANCES | {"signature_name": "X"},
        400,
        'Serving signature name: "X" not found in signature def',
    ),
    "another input": (
        "/v1/models/m:predict",
        {"instances": [{"x": [1, 2, 3], "z": 1}]},
        400,
        "JSON object: does not have named input: z; expected ['x']",
    ),
    "no input": (
        "/v1/models/m:predict",
        {"inputs": {}},
        400,
        "input size does not match signature: 0!=1 len({}) != len({x}). "
        "Sent extra: {}. Missing but required: {x}.",
    ),
    "wrong dtype": (
        "/v1/models/m:predict",
        {"inputs": [["a", 2, 3]]},
        400,
        'input x: expected DT_FLOAT, received "a"',
    ),
    "a shape that the graph refuses": (
        "/v1/models/m:predict",
        {"inputs": [1, 2]},
        400,
        f"input x has the wrong shape: expected [?,3], received [2]. {NO_ROWS}",
    ),
    "a long message": (
        "/v1/models/m:predict",
        INSTANCES | {"signature_name": "X" * 2000},
        400,
        f'Serving signature name: "{"X" * 2000}" not found in signature def',
    ),
}


@pytest.mark.parametrize("case", BAD_JSON)
def test_what_predict_refuses_over_rest(server, case):
    path, body, status, message = BAD_JSON[case]
    assert rest(server, "POST", path, body) == (status, {"error": message})


class _Half(tf.Module):
    """The model of TF Serving's quick start, declared [?,1]."""

    @tf.function(input_signature=[tf.TensorSpec([None, 1], tf.float32, "x")])
    def half_plus_two(self, x):
        return {"y": 0.5 * x + 2.0}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None, 1], tf.float32, "x"),
            tf.TensorSpec([None, 2], tf.float32, "w"),
        ]
    )
    def product(self, x, w):
        return {"y": tf.matmul(x, w, transpose_a=True)}


@pytest.mark.parametrize("batching", [False, True])
def test_what_shapes_are_taken_is_the_graphs_business(tmp_path, batching):
    model = _Half()
    signatures = {"serving_default": model.half_plus_two, "product": model.product}
    (tmp_path / "m").mkdir()
    save_any(tmp_path / "m" / "1", model, signatures)
    with running(
        model_base_path=str(tmp_path / "m"), enable_batching=batching
    ) as server:

        def ask(body: dict) -> tuple:
            return rest(server, "POST", "/v1/models/m:predict", body)

        assert ask({"instances": [1, 2, 5]}) == (200, {"predictions": [2.5, 3, 4.5]})
        assert ask({"instances": [[1], [2]]}) == (200, {"predictions": [[2.5], [3]]})
        assert ask({"inputs": [[[2, 4]]]}) == (200, {"outputs": [[[3, 4]]]})
        if not batching:  # A batch is made of rows.
            assert ask({"inputs": 1.0}) == (200, {"outputs": 2.5})
        unequal = {"x": [[1], [2]], "w": [[1, 2, 3]]}
        if batching:
            unequal = {"x": [[[1]], [[2]]], "w": [[1, 2, 3], [1, 2, 3]]}
        status, answered = ask({"signature_name": "product", "inputs": unequal})
        assert status == 400
        said = answered["error"]
        assert "input w has the wrong shape: expected [?,2], received [" in said
        assert ("input x has" in said) is batching
        reason = "In[0] ndims must be >= 2" if batching else "Matrix size-incompatible"
        assert reason in said


def test_a_huge_declared_size_takes_no_memory(stub):
    asked = request(None)
    proto = asked.inputs["x"]
    proto.dtype = tf.float32.as_datatype_enum
    for size in (1 << 40, 3):
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.append(1.0)
    assert fails(stub.Predict, asked) == (
        Code.RESOURCE_EXHAUSTED,
        "input x declares the shape [1099511627776,3], more than the 268435456 bytes "
        "that a tensor may take",
    )


def test_bytes_that_are_no_request(server):
    path = "/tensorflow.serving.PredictionService/Predict"
    with channel_to(server.grpc.ports[0]) as channel:
        failure = fails(channel.unary_unary(path), b"\xff\xff\xff")
    assert failure == (
        Code.INVALID_ARGUMENT,
        "The request is not a tensorflow.serving.PredictRequest",
    )
