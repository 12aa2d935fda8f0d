"""GetModelMetadata, GetModelStatus and what every call needs, over real sockets."""

import threading

import pytest
import tensorflow as tf
from served import (
    Code,
    channel_to,
    fails,
    managing,
    predicting,
    rest,
    running,
    save,
    states,
    wait_for,
)
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    predict_pb2,
    regression_pb2,
)

from serving.models.loader import Loader

START, LOADING, AVAILABLE = 10, 20, 30


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("metadata") / "m"
    base.mkdir()
    save(base / "123", 2.0)
    with running(model_base_path=str(base)) as server:
        yield server


@pytest.fixture
def stub(server):
    with predicting(server.grpc.ports[0]) as stub:
        yield stub


def _metadata(*fields: str, name: str = "m", version: int = 0):
    asked = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=fields)
    asked.model_spec.name = name
    if version:
        asked.model_spec.version.value = version
    return asked


def test_metadata_are_the_signatures(stub):
    response = stub.GetModelMetadata(_metadata("signature_def"))
    assert response.model_spec.name == "m"
    assert response.model_spec.version.value == 123
    definitions = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(definitions)
    assert set(definitions.signature_def) == {
        "__saved_model_init_op",
        "serving_default",
        "regress",
        "classify",
    }
    signature = definitions.signature_def["serving_default"]
    assert signature.method_name == "tensorflow/serving/predict"
    assert signature.inputs["x"].dtype == tf.float32.as_datatype_enum
    assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 3]


@pytest.mark.parametrize(
    "asked, code, message",
    [
        (
            _metadata(),
            Code.INVALID_ARGUMENT,
            "GetModelMetadataRequest must specify at least one metadata_field",
        ),
        (
            _metadata("signature_def", "graph"),
            Code.INVALID_ARGUMENT,
            "Metadata field graph is not supported",
        ),
        (
            _metadata("signature_def", name=""),
            Code.INVALID_ARGUMENT,
            "ModelSpec has no name specified.",
        ),
        (
            _metadata("signature_def", name="foo"),
            Code.NOT_FOUND,
            "Servable not found for request: Latest(foo)",
        ),
        (
            _metadata("signature_def", version=9),
            Code.NOT_FOUND,
            "Servable not found for request: Specific(m, 9)",
        ),
    ],
    ids=["no field", "another field", "no name", "unknown model", "unknown version"],
)
def test_what_metadata_refuse(stub, asked, code, message):
    assert fails(stub.GetModelMetadata, asked) == (code, message)


def test_metadata_over_rest_have_default_values_printed(server):
    _, first = rest(server, "GET", "/v1/models/m/metadata")
    for path in ("/versions/123", ""):
        status, answered = rest(server, "GET", f"/v1/models/m{path}/metadata")
        assert (status, answered) == (200, first)
    spec = {"name": "m", "signature_name": "", "version": "123"}
    assert answered["model_spec"] == spec
    signatures = answered["metadata"]["signature_def"]["signature_def"]
    assert signatures["regress"]["method_name"] == "tensorflow/serving/regress"
    x = signatures["serving_default"]["inputs"]["x"]
    assert x == {
        "dtype": "DT_FLOAT",
        "name": "serving_default_x:0",
        "tensor_shape": {
            "dim": [{"size": "-1", "name": ""}, {"size": "3", "name": ""}],
            "unknown_rank": False,
        },
    }
    assert rest(server, "GET", "/v1/models/foo/metadata") == (
        404,
        {"error": "Servable not found for request: Latest(foo)"},
    )
    assert rest(server, "GET", "/v1/models/m/versions/9/metadata") == (
        404,
        {"error": "Servable not found for request: Specific(m, 9)"},
    )


def _status(name: str, version: int | None = None):
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = name
    if version is not None:
        asked.model_spec.version.value = version
    return asked


def test_status(server):
    with managing(server.grpc.ports[0]) as stub:
        for asked in (_status("m"), _status("m", 123)):
            (status,) = stub.GetModelStatus(asked).model_version_status
            assert (status.version, status.state) == (123, AVAILABLE)
            assert (status.status.error_code, status.status.error_message) == (0, "")
        assert fails(stub.GetModelStatus, _status("foo")) == (
            Code.NOT_FOUND,
            "Could not find any versions of model foo",
        )
        assert fails(stub.GetModelStatus, _status("m", 9)) == (
            Code.NOT_FOUND,
            "Could not find version 9 of model m",
        )
        assert fails(stub.GetModelStatus, _status("")) == (
            Code.NOT_FOUND,
            "Could not find any versions of model ",
        )


def test_status_over_rest(server):
    shown = {
        "model_version_status": [
            {
                "version": "123",
                "state": "AVAILABLE",
                "status": {"error_code": "OK", "error_message": ""},
            }
        ]
    }
    assert rest(server, "GET", "/v1/models/m") == (200, shown)
    assert rest(server, "GET", "/v1/models/m/versions/123") == (200, shown)
    assert rest(server, "GET", "/v1/models/foo") == (
        404,
        {"error": "Could not find any versions of model foo"},
    )
    assert rest(server, "GET", "/v1/models/m/versions/9") == (
        404,
        {"error": "Could not find version 9 of model m"},
    )


def test_a_version_that_waits_for_another_one_to_load_has_started(
    tmp_path, monkeypatch
):
    go_on = threading.Event()

    load = Loader.load

    def load_later(loader, name, path):
        if not path.endswith("/1"):
            go_on.wait(30)
        return load(loader, name, path)

    monkeypatch.setattr(Loader, "load", load_later)
    save(tmp_path / "1", 1.0)
    with running(model_base_path=str(tmp_path)) as server:
        port = server.grpc.ports[0]
        save(tmp_path / "2", 2.0)
        wait_for(lambda: states(port).get(2) == LOADING)
        save(tmp_path / "3", 3.0)
        wait_for(lambda: states(port).get(3) == START)
        assert states(port) == {1: AVAILABLE, 2: LOADING, 3: START}
        go_on.set()
        wait_for(lambda: states(port)[3] == AVAILABLE)


@pytest.mark.parametrize(
    "service, method, asked",
    [
        ("PredictionService", "Predict", predict_pb2.PredictRequest()),
        ("PredictionService", "Classify", classification_pb2.ClassificationRequest()),
        ("PredictionService", "Regress", regression_pb2.RegressionRequest()),
        (
            "PredictionService",
            "MultiInference",
            inference_pb2.MultiInferenceRequest(
                tasks=[
                    inference_pb2.InferenceTask(
                        method_name="tensorflow/serving/regress"
                    )
                ]
            ),
        ),
        (
            "PredictionService",
            "GetModelMetadata",
            get_model_metadata_pb2.GetModelMetadataRequest(
                metadata_field=["signature_def"]
            ),
        ),
        (
            "ModelService",
            "GetModelStatus",
            get_model_status_pb2.GetModelStatusRequest(),
        ),
    ],
)
def test_every_call_needs_a_model_spec(server, service, method, asked):
    with channel_to(server.grpc.ports[0]) as channel:
        call = channel.unary_unary(f"/tensorflow.serving.{service}/{method}")
        failure = fails(call, asked.SerializeToString())
    assert failure == (Code.INVALID_ARGUMENT, "Missing ModelSpec")
