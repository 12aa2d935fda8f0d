"""What TF Serving's own integration tests ask of a server, where no row does."""

import time

import grpc
import pytest
import tensorflow as tf
from served import Code, answer, fails, request
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_status_pb2,
    inference_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

AVAILABLE = 30


def _asked(x: float = 2.0, **spec):
    return request([[x]], **{"name": "half_plus_two"} | spec)


def _of_examples(kind, signature: str, feature: str = "x"):
    asked = kind()
    asked.model_spec.name = "half_plus_two"
    asked.model_spec.signature_name = signature
    example = asked.input.example_list.examples.add()
    example.features.feature[feature].float_list.value.append(2.0)
    return asked


def _check_spec(spec, signature: str, version: int = 124) -> None:
    found = spec.name, spec.signature_name, spec.version.value
    assert found == ("half_plus_two", signature, version)


def test_predict(server):
    response = server.prediction.Predict(_asked(), timeout=20)
    assert response.outputs["y"].dtype == tf.float32.as_datatype_enum
    assert answer(response) == [3.0]
    _check_spec(response.model_spec, "serving_default")


@pytest.mark.parametrize(
    "spec, version",
    [({}, 124), ({"version": 123}, 123), ({"version_label": "stable"}, 123)],
    ids=str,
)
def test_predict_by_version_and_label(server, spec, version):
    response = server.prediction.Predict(_asked(**spec), timeout=20)
    _check_spec(response.model_spec, "serving_default", version)


def test_predict_of_another_model(server):
    response = server.prediction.Predict(_asked(name="half_plus_three"), timeout=20)
    assert answer(response) == [4.0]


def test_predict_over_a_unix_socket(server):
    with grpc.insecure_channel(f"unix:{server.socket}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert answer(stub.Predict(_asked(), timeout=20)) == [3.0]


def test_predict_with_batching(batching):
    assert answer(batching.prediction.Predict(_asked(), timeout=20)) == [3.0]
    body = {"instances": [[2.0], [3.0], [4.0]]}
    expected = {"predictions": [[3.0], [3.5], [4.0]]}
    assert batching.post("half_plus_two", body) == (200, expected)


def test_classify(server):
    asked = _of_examples(classification_pb2.ClassificationRequest, "classify_x_to_y")
    response = server.prediction.Classify(asked, timeout=20)
    (row,) = response.result.classifications
    assert [(one.label, one.score) for one in row.classes] == [("", 3.0)]
    _check_spec(response.model_spec, "classify_x_to_y")


def test_regress(server):
    asked = _of_examples(regression_pb2.RegressionRequest, "regress_x_to_y")
    response = server.prediction.Regress(asked, timeout=20)
    assert [one.value for one in response.result.regressions] == [3.0]
    _check_spec(response.model_spec, "regress_x_to_y")


def test_multi_inference(server):
    asked = inference_pb2.MultiInferenceRequest()
    for signature in ("regress_x_to_y", "classify_x_to_y"):
        method = f"tensorflow/serving/{signature.split('_')[0]}"
        task = asked.tasks.add(method_name=method)
        task.model_spec.name = "half_plus_two"
        task.model_spec.signature_name = signature
    example = asked.input.example_list.examples.add()
    example.features.feature["x"].float_list.value.append(2.0)
    regressed, classified = server.prediction.MultiInference(asked, timeout=20).results
    assert regressed.regression_result.regressions[0].value == 3.0
    (row,) = classified.classification_result.classifications
    assert row.classes[0].score == 3.0
    _check_spec(regressed.model_spec, "regress_x_to_y")
    _check_spec(classified.model_spec, "classify_x_to_y")


def test_another_signature_reads_another_feature(server):
    asked = _of_examples(regression_pb2.RegressionRequest, "regress_x2_to_y3", "x2")
    response = server.prediction.Regress(asked, timeout=20)
    assert [one.value for one in response.result.regressions] == [4.0]


@pytest.mark.parametrize(
    "spec, code",
    [
        ({"name": ""}, Code.INVALID_ARGUMENT),
        ({"name": "nobody"}, Code.NOT_FOUND),
        ({"version": 9}, Code.NOT_FOUND),
        ({"version_label": "nothing"}, Code.INVALID_ARGUMENT),
        ({"signature_name": "nothing"}, Code.FAILED_PRECONDITION),
    ],
    ids=str,
)
def test_bad_model_specs(server, spec, code):
    assert fails(server.prediction.Predict, _asked(**spec))[0] is code


@pytest.mark.parametrize("call", ["Predict", "Classify", "Regress"])
def test_no_model_spec(server, call):
    kinds = {
        "Predict": type(_asked()),
        "Classify": classification_pb2.ClassificationRequest,
        "Regress": regression_pb2.RegressionRequest,
    }
    assert fails(getattr(server.prediction, call), kinds[call]()) == (
        Code.INVALID_ARGUMENT,
        "Missing ModelSpec",
    )


def test_status(server):
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "half_plus_two"
    found = server.models.GetModelStatus(asked, timeout=20).model_version_status
    assert {status.version: status.state for status in found} == {
        123: AVAILABLE,
        124: AVAILABLE,
    }
    assert all(status.status.error_code == 0 for status in found)
    asked.model_spec.version.value = 123
    (status,) = server.models.GetModelStatus(asked, timeout=20).model_version_status
    assert status.version == 123


def test_status_over_rest(server):
    assert server.ask("GET", "/v1/models/half_plus_two/versions/123") == (
        200,
        {
            "model_version_status": [
                {
                    "version": "123",
                    "state": "AVAILABLE",
                    "status": {"error_code": "OK", "error_message": ""},
                }
            ]
        },
    )
    assert server.ask("GET", "/v1/models/nobody")[0] == 404


def test_metadata_over_rest(server):
    status, found = server.ask("GET", "/v1/models/half_plus_two/metadata")
    assert status == 200
    assert found["model_spec"] == {
        "name": "half_plus_two",
        "signature_name": "",
        "version": "124",
    }
    signatures = found["metadata"]["signature_def"]["signature_def"]
    x = signatures["serving_default"]["inputs"]["x"]
    assert (x["dtype"], x["tensor_shape"]["unknown_rank"]) == ("DT_FLOAT", False)
    assert [dim["size"] for dim in x["tensor_shape"]["dim"]] == ["-1", "1"]
    assert signatures["regress_x_to_y"]["method_name"] == "tensorflow/serving/regress"


@pytest.mark.parametrize(
    "path, values",
    [
        ("half_plus_two", [[3.0], [3.5], [4.0]]),
        ("half_plus_two/versions/123", [[3.0], [3.5], [4.0]]),
        ("half_plus_two/labels/stable", [[3.0], [3.5], [4.0]]),
        ("half_plus_three", [[4.0], [4.5], [5.0]]),
    ],
)
def test_predict_over_rest(server, path, values):
    x = [[2.0], [3.0], [4.0]]
    for body, expected in (
        ({"instances": x}, {"predictions": values}),
        ({"instances": [{"x": one} for one in x]}, {"predictions": values}),
        ({"inputs": x}, {"outputs": values}),
        ({"inputs": {"x": x}}, {"outputs": values}),
    ):
        assert server.post(path, body) == (200, expected)


def test_classify_and_regress_over_rest(server):
    examples = [{"x": 2.0}, {"x": [3.0]}]
    body = {"signature_name": "classify_x_to_y", "examples": examples}
    assert server.post("half_plus_two", body, "classify") == (
        200,
        {"results": [[["", 3.0]], [["", 3.5]]]},
    )
    body["signature_name"] = "regress_x_to_y"
    found = server.post("half_plus_two", body, "regress")
    assert found == (200, {"results": [3.0, 3.5]})
    body = {"signature_name": "regress_x_to_y", "context": {"x": 2.0}, "examples": [{}]}
    assert server.post("half_plus_two", body, "regress") == (200, {"results": [3.0]})


def test_the_prometheus_page(server):
    server.prediction.Predict(_asked(), timeout=20)
    page = server.metrics()
    assert "# TYPE :tensorflow:serving:request_count counter" in page
    assert (
        ':tensorflow:serving:request_count{model_name="half_plus_two",status="OK"}'
        in page
    )


def test_the_config_file_is_read_once_unless_it_is_polled(reloads):
    file = reloads.server.file
    before = file.read_text()
    file.write_text("model_config_list {}")
    time.sleep(2)
    assert reloads.server.post("half_plus_two", {"instances": [[2.0]]})[0] == 200
    file.write_text(before)
