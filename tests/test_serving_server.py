"""The server over real sockets: gRPC statuses and messages, REST codes and JSON."""

import os
import pathlib
import signal
import subprocess
import sys

import grpc
import numpy as np
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import Code, fails, free_port, request, rest, save, wait_for
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_log_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving import server as command
from serving.flags import Flags
from serving.server import Server

ROOT = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("serving")
    (folder / "m").mkdir()
    save(folder / "m" / "001", 2.0)
    (folder / "m" / "not-a-version").mkdir()
    (folder / "monitoring.txt").write_text("prometheus_config { enable: true }")
    (folder / "batching.txt").write_text(
        "max_batch_size { value: 4 } allowed_batch_sizes: 2 allowed_batch_sizes: 4"
    )
    return folder


@pytest.fixture(scope="module")
def server(folder):
    flags = Flags(
        port=free_port(),
        grpc_socket_path=str(folder / "socket"),
        rest_api_port=free_port(),
        model_name="m",
        model_base_path=str(folder / "m"),
        monitoring_config_file=str(folder / "monitoring.txt"),
        file_system_poll_wait_seconds=0.1,
        max_num_load_retries=0,
        enable_grpc_healthcheck_service=True,
    )
    server = Server(flags)
    server.start()
    yield server
    server.stop()


@pytest.fixture
def stub(server):
    with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
        yield prediction_service_pb2_grpc.PredictionServiceStub(channel)


@pytest.fixture
def model_stub(server):
    with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
        yield model_service_pb2_grpc.ModelServiceStub(channel)


def test_predict_answers_with_the_version_that_did(stub):
    response = stub.Predict(request([[1, 2, 3], [0, 0, 1]]))
    assert list(response.outputs["y"].float_val) == [12.0, 2.0]
    assert list(response.outputs["name_bytes"].string_val) == [b"12", b"2"]
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == "serving_default"


def test_inputs_come_in_every_form(stub):
    asked = request(None)
    proto = asked.inputs["x"]
    proto.dtype = tf.float32.as_datatype_enum
    for size in (2, 3):
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.append(1.0)  # one value stands for all
    assert list(stub.Predict(asked).outputs["y"].float_val) == [6.0, 6.0]
    del proto.float_val[:]
    proto.tensor_content = np.arange(6, dtype=np.float32).tobytes()
    assert list(stub.Predict(asked).outputs["y"].float_val) == [6.0, 24.0]


def _with(asked, change):
    change(asked)
    return asked


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
        _with(request(), lambda r: r.inputs["z"].CopyFrom(r.inputs["x"])),
        Code.INVALID_ARGUMENT,
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). "
        "Sent extra: {z}. Missing but required: {}.",
    ),
    "another input": (
        _with(
            request(None),
            lambda r: r.inputs["z"].CopyFrom(tf.make_tensor_proto([1.0])),
        ),
        Code.INVALID_ARGUMENT,
        "Signature input alias: x(feed name: serving_default_x:0) not found in request "
        "and no default value provided. Inputs expected to be in the set {x}.",
    ),
    "cut-off content": (
        _with(
            request(None),
            lambda r: (
                r.inputs["x"].CopyFrom(
                    tf.make_tensor_proto(np.ones([2, 3], np.float32))
                )
                or setattr(r.inputs["x"], "tensor_content", b"abc")
            ),
        ),
        Code.INVALID_ARGUMENT,
        "tensor parsing error: x",
    ),
    "wrong dtype": (
        _with(
            request(None),
            lambda r: r.inputs["x"].CopyFrom(tf.make_tensor_proto([[1, 2, 3]])),
        ),
        Code.INVALID_ARGUMENT,
        "input x has the wrong dtype: expected DT_FLOAT, received DT_INT32",
    ),
    "wrong shape": (
        request([[1, 2]]),
        Code.INVALID_ARGUMENT,
        "input x has the wrong shape: expected [?,3], received [1,2]",
    ),
    "unknown output": (
        _with(request(), lambda r: r.output_filter.append("q")),
        Code.INVALID_ARGUMENT,
        "output tensor alias not found in signature: q Outputs expected to be in the "
        "set {name_bytes,y}.",
    ),
    "output twice": (
        _with(request(), lambda r: r.output_filter.extend(["y", "y"])),
        Code.INVALID_ARGUMENT,
        "duplicate output tensor alias: y",
    ),
}


@pytest.mark.parametrize("case", BAD_PREDICT)
def test_what_predict_refuses(stub, case):
    asked, code, message = BAD_PREDICT[case]
    assert fails(stub.Predict, asked) == (code, message)


def test_a_huge_declared_size_takes_no_memory(stub):
    asked = request(None)
    proto = asked.inputs["x"]
    proto.dtype = tf.float32.as_datatype_enum
    for size in (1 << 40, 3):
        proto.tensor_shape.dim.add(size=size)
    proto.float_val.append(1.0)
    code, message = fails(stub.Predict, asked)
    assert code is Code.RESOURCE_EXHAUSTED
    assert message.startswith("input x declares the shape [1099511627776,3]")


def test_an_output_filter_picks(stub):
    asked = request()
    asked.output_filter.append("y")
    assert list(stub.Predict(asked).outputs) == ["y"]


def _example(*values) -> tf.train.Example:
    floats = tf.train.FloatList(value=values)
    return tf.train.Example(
        features=tf.train.Features(feature={"x": tf.train.Feature(float_list=floats)})
    )


def test_classify_and_regress_take_examples(stub):
    regress = regression_pb2.RegressionRequest()
    regress.model_spec.name, regress.model_spec.signature_name = "m", "regress"
    regress.input.example_list.examples.extend([_example(1, 2, 3), _example(0, 0, 1)])
    values = [one.value for one in stub.Regress(regress).result.regressions]
    assert values == [12.0, 2.0]
    classify = classification_pb2.ClassificationRequest()
    classify.model_spec.name, classify.model_spec.signature_name = "m", "classify"
    classify.input.example_list_with_context.context.CopyFrom(_example(1, 1, 1))
    classify.input.example_list_with_context.examples.add()
    (row,) = stub.Classify(classify).result.classifications
    assert [(one.label, one.score) for one in row.classes] == [("", 6.0)]
    both = inference_pb2.MultiInferenceRequest(input=regress.input)
    for name in ("classify", "regress"):
        task = both.tasks.add(method_name=f"tensorflow/serving/{name}")
        task.model_spec.name, task.model_spec.signature_name = "m", name
    found = stub.MultiInference(both).results
    assert found[0].classification_result.classifications[0].classes[0].score == 12.0
    assert found[1].regression_result.regressions[1].value == 2.0
    both.tasks[1].model_spec.signature_name = "classify"
    assert fails(stub.MultiInference, both) == (
        Code.INVALID_ARGUMENT,
        "Duplicate evaluation of signature: classify",
    )
    both.tasks[1].method_name = "X"
    assert fails(stub.MultiInference, both) == (
        Code.UNIMPLEMENTED,
        "Unsupported signature method_name: X",
    )


def test_what_classify_refuses(stub):
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name, asked.model_spec.signature_name = "m", "classify"
    assert fails(stub.Classify, asked) == (
        Code.INVALID_ARGUMENT,
        "Input is empty.",
    )
    asked.model_spec.signature_name = "X"
    assert fails(stub.Classify, asked) == (
        Code.INVALID_ARGUMENT,
        "No signature was found with the name: X",
    )


def test_metadata_and_status(stub, model_stub):
    asked = get_model_metadata_pb2.GetModelMetadataRequest()
    asked.model_spec.name = "m"
    code, _ = fails(stub.GetModelMetadata, asked)
    assert code is Code.INVALID_ARGUMENT
    asked.metadata_field.append("signature_def")
    response = stub.GetModelMetadata(asked)
    found = get_model_metadata_pb2.SignatureDefMap()
    response.metadata["signature_def"].Unpack(found)
    assert set(found.signature_def) == {"serving_default", "regress", "classify"}
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "m"
    (version,) = model_stub.GetModelStatus(status).model_version_status
    assert (version.version, version.state) == (1, 30)
    status.model_spec.name = "foo"
    assert fails(model_stub.GetModelStatus, status) == (
        Code.NOT_FOUND,
        "Could not find any versions of model foo",
    )


def test_health_and_the_unix_socket(server, folder):
    with grpc.insecure_channel(f"unix:{folder / 'socket'}") as channel:
        health = health_pb2_grpc.HealthStub(channel)
        assert health.Check(health_pb2.HealthCheckRequest()).status == 1
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        assert list(stub.Predict(request()).outputs["y"].float_val) == [12.0]


def test_bytes_that_are_no_request(server):
    with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
        call = channel.unary_unary("/tensorflow.serving.PredictionService/Predict")
        code, message = fails(call, b"\xff\xff\xff")
    assert code is Code.INVALID_ARGUMENT
    assert "tensorflow.serving.PredictRequest" in message


def test_rest_predicts_in_rows_and_columns(server):
    path = "/v1/models/m:predict"
    filled = {"instances": [{"x": [1, 2, 3]}, {"x": [0, 0, 1]}]}
    status, answer = rest(server, "POST", path, filled)
    assert status == 200
    assert answer["predictions"][0] == {"y": 12.0, "name_bytes": {"b64": "MTI="}}
    status, answer = rest(server, "POST", path, {"inputs": {"x": [[0.5, 0, 0]]}})
    assert (status, answer["outputs"]["y"]) == (200, [1.0])
    # A single input needs no name; NaN is a bare word both ways.
    status, answer = rest(server, "POST", path, '{"instances": [[NaN, 0, 0]]}')
    assert status == 200 and np.isnan(answer["predictions"][0]["y"])


@pytest.mark.parametrize(
    "verb, path, body, status, message",
    [
        ("POST", "/v1/models/m:predict", "{", 400, "JSON Parse error"),
        ("POST", "/v1/models/m:predict", "[1]", 400, "not an object"),
        ("POST", "/v1/models/m:predict", "{}", 400, "exactly one of"),
        ("POST", "/v1/models/m:predict", {"instances": [], "inputs": []}, 400, "one"),
        ("POST", "/v1/models/m:predict", {"instances": [["a"]]}, 400, "input x"),
        ("POST", "/v1/models/m:predict", {"instances": [[1], [1, 2]]}, 400, "unequal"),
        (
            "POST",
            "/v1/models/m:predict",
            {"signature_name": 1, "instances": [[1, 2, 3]]},
            400,
            "must be a string",
        ),
        ("POST", "/v1/models/foo:predict", {"instances": [[1]]}, 404, "Latest(foo)"),
        ("GET", "/v1/models/foo", None, 404, "Could not find any versions"),
        ("GET", "/v1/nothing", None, 400, "Malformed request: GET /v1/nothing"),
        ("POST", "/v1/models/m", "{}", 400, "Malformed request: POST /v1/models/m"),
        ("POST", "/v1/models/m:predict", "[" * 100_000, 400, "JSON Parse error"),
    ],
)
def test_what_rest_refuses(server, verb, path, body, status, message):
    answered, answer = rest(server, verb, path, body)
    assert answered == status
    assert message in answer["error"]


def test_rest_classify_regress_status_and_metadata(server):
    body = {"signature_name": "regress", "examples": [{"x": [1.0, 2.0, 3.0]}]}
    answer = rest(server, "POST", "/v1/models/m/versions/1:regress", body)
    assert answer == (200, {"results": [12.0]})
    body["signature_name"] = "classify"
    answer = rest(server, "POST", "/v1/models/m:classify", body)
    assert answer == (200, {"results": [[["", 12.0]]]})
    _, answer = rest(server, "GET", "/v1/models/m")
    assert answer["model_version_status"][0] == {
        "version": "1",
        "state": "AVAILABLE",
        "status": {"error_code": "OK", "error_message": ""},
    }
    _, answer = rest(server, "GET", "/v1/models/m/metadata")
    assert answer["model_spec"] == {"name": "m", "signature_name": "", "version": "1"}
    signatures = answer["metadata"]["signature_def"]["signature_def"]
    assert signatures["regress"]["method_name"] == "tensorflow/serving/regress"


def test_prometheus_counts(server, stub):
    stub.Predict(request())
    fails(stub.Predict, request([[1]]))
    _, page = rest(server, "GET", "/monitoring/prometheus/metrics")
    line = ':tensorflow:serving:request_count{model_name="m",status="OK"} '
    assert int(page.split(line)[1].split("\n")[0]) >= 1
    assert 'status="INVALID_ARGUMENT"' in page
    assert (
        ':tensorflow:serving:request_latency_count{model_name="m",API="Predict",'
        'entrypoint="GRPC"}' in page
    )


def test_versions_come_go_fail_and_are_labelled(server, stub, model_stub, folder):
    status = get_model_status_pb2.GetModelStatusRequest()
    status.model_spec.name = "m"

    def states():
        found = model_stub.GetModelStatus(status).model_version_status
        return {one.version: one.state for one in found}

    (folder / "m" / "2").mkdir()
    (folder / "m" / "2" / "saved_model.pb").write_bytes(b"cut off")
    wait_for(lambda: states().get(2) == 50)
    assert stub.Predict(request()).model_spec.version.value == 1
    save(folder / "m" / "3", 5.0)
    wait_for(lambda: states() == {1: 50, 2: 50, 3: 30})
    assert list(stub.Predict(request()).outputs["y"].float_val) == [30.0]

    reload = model_management_pb2.ReloadConfigRequest()
    config = reload.config.model_config_list.config.add(
        name="m", base_path=str(folder / "m"), model_platform="tensorflow"
    )
    config.model_version_policy.specific.versions.extend([1, 3])
    config.version_labels["stable"] = 1
    assert model_stub.HandleReloadConfigRequest(reload).status.error_code == 0
    assert list(
        stub.Predict(request(version_label="stable")).outputs["y"].float_val
    ) == [12.0]
    config.version_labels["canary"] = 7
    code, message = fails(model_stub.HandleReloadConfigRequest, reload)
    assert code is Code.FAILED_PRECONDITION
    assert "not currently available for inference" in message
    config.base_path = "relative"
    code, message = fails(model_stub.HandleReloadConfigRequest, reload)
    assert code is Code.INVALID_ARGUMENT and "model m" in message
    del reload.config.model_config_list.config[:]
    model_stub.HandleReloadConfigRequest(reload)
    wait_for(lambda: fails(stub.Predict, request())[0] is Code.NOT_FOUND)
    config = reload.config.model_config_list.config.add(
        name="m", base_path=str(folder / "m")
    )
    config.model_version_policy.specific.versions.append(1)
    model_stub.HandleReloadConfigRequest(reload)
    assert stub.Predict(request()).model_spec.version.value == 1


def test_a_version_whose_warm_up_fails_never_serves(folder, tmp_path):
    save(tmp_path / "1", 2.0)
    extra = tmp_path / "1" / "assets.extra"
    extra.mkdir()
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(request([[1, 2]]))
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())
    flags = Flags(
        port=free_port(), model_base_path=str(tmp_path), max_num_load_retries=0
    )
    server = Server(flags)
    server.start()
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "default"
    with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
        stub = model_service_pb2_grpc.ModelServiceStub(channel)
        (status,) = stub.GetModelStatus(asked).model_version_status
    server.stop()
    assert status.state == 50
    assert "wrong shape" in status.status.error_message


def test_batching_puts_together_pads_and_refuses(folder, tmp_path):
    save(tmp_path / "1", 2.0)
    flags = Flags(
        port=free_port(),
        model_base_path=str(tmp_path),
        enable_batching=True,
        batching_parameters_file=str(folder / "batching.txt"),
    )
    server = Server(flags)
    server.start()
    with grpc.insecure_channel(f"localhost:{server.grpc.ports[0]}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        calls = [
            stub.Predict.future(request([[i, 0, 0]], name="default")) for i in range(12)
        ]
        values = [call.result().outputs["y"].float_val[0] for call in calls]
        code, message = fails(stub.Predict, request([[1, 0, 0]] * 5, name="default"))
    server.stop()
    assert values == [2.0 * i for i in range(12)]
    assert code is Code.INVALID_ARGUMENT
    assert "Task size 5 is larger than maximum input batch size 4" in message


def test_the_command_serves_and_ends_on_sigterm(folder, tmp_path):
    save(tmp_path / "1", 2.0)
    port = free_port()
    command = [sys.executable, "-m", "serving.server", f"--port={port}"]
    command += [f"--model_base_path={tmp_path}", "--rest_api_num_threads=4"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    server = subprocess.Popen(
        command, stderr=subprocess.PIPE, text=True, env=environment
    )
    with grpc.insecure_channel(f"localhost:{port}") as channel:
        stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
        stub.Predict(request(name="default"), timeout=60, wait_for_ready=True)
        server.send_signal(signal.SIGTERM)
    _, said = server.communicate(timeout=60)
    assert server.returncode == 0
    assert "--rest_api_num_threads is accepted for compatibility" in said


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--model_base_path or --model_config_file must say what to serve"),
        (
            ["--model_base_path=/x", "--batching_parameters_file=/y"],
            "--batching_parameters_file is set without --enable_batching",
        ),
        (
            ["--model_config_file=CONFIG"],
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
    ],
)
def test_a_bad_command_line_is_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / "config").write_text("model_config_list { oops }")
    path = str(tmp_path / "config")
    assert command.main([a.replace("CONFIG", path) for a in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line
