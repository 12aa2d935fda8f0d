"""What a server is before it serves, and whom it tells."""

import socket
import time

import grpc
import pytest
import tensorflow as tf
from differences import row
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import Code, channel_to, request, wait_for
from served_outside import model_config, model_configs, refused, serving, starting
from tensorflow_serving.apis import prediction_log_pb2

SERVING = health_pb2.HealthCheckResponse.SERVING
ROW = {"instances": [[1.0]]}


def _health(server, service: str = "") -> int:
    """The status of a service; raises grpc.RpcError."""
    with channel_to(server.port) as channel:
        stub = health_pb2_grpc.HealthStub(channel)
        asked = health_pb2.HealthCheckRequest(service=service)
        return stub.Check(asked, timeout=5).status


def _is_healthy(server) -> bool:
    try:
        return _health(server) == SERVING
    except grpc.RpcError:
        return False


@row("A5", tf_serving='health is told of "", "PredictionService" and "ModelService"')
@pytest.mark.parametrize("name", ["", "PredictionService", "ModelService"])
def test_health_by_tf_servings_names(server, name):
    assert _health(server, name) == SERVING


@row(
    "A5",
    tf_serving="health by the services' full names is NOT_FOUND",
    here="they are known too, as gRPC's documents have it",
)
@pytest.mark.parametrize("name", ["PredictionService", "ModelService"])
def test_health_by_full_names(server, name):
    assert _health(server, f"tensorflow.serving.{name}") == SERVING


@row("A5", tf_serving="health by other names is NOT_FOUND")
def test_health_of_other_names(server):
    with pytest.raises(grpc.RpcError) as caught:
        _health(server, "half_plus_two")
    assert caught.value.code() is Code.NOT_FOUND


@row("A3", tf_serving="a first load that fails ends the process with an error")
def test_a_first_version_that_cannot_be_loaded_ends_the_start(exports, tmp_path):
    base = exports.junk(tmp_path / "m" / "1")
    code, said = refused(model_name="m", model_base_path=base, max_num_load_retries=0)
    assert code != 0
    assert "did not become available" in said
    assert "Traceback" not in said


@row("A3", tf_serving="a first load that fails ends it beside models that serve")
def test_one_of_several_models_that_cannot_be_loaded_ends_the_start(exports, tmp_path):
    broken = exports.junk(tmp_path / "broken" / "1")
    fine = exports.copy("two", tmp_path / "fine" / "1")
    config = tmp_path / "models.config"
    config.write_text(
        model_configs(model_config("fine", fine), model_config("broken", broken))
    )
    code, said = refused(model_config_file=config, max_num_load_retries=0)
    assert code != 0
    (line,) = [one for one in said.splitlines() if "did not become available" in one]
    assert "broken" in line


@row(
    "A3",
    tf_serving="without a version it waits, and opens no port",
    here="until every configured model has had a version gRPC health is not SERVING; "
    "models that have one are answered",
)
@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_without_a_version_it_is_not_healthy(exports, tmp_path, kind):
    late = tmp_path / "late"
    if kind == "empty":
        late.mkdir()
    early = exports.copy("two", tmp_path / "early" / "1")
    config = tmp_path / "models.config"
    config.write_text(
        model_configs(model_config("early", early), model_config("late", late))
    )
    with starting(
        model_config_file=config,
        enable_grpc_healthcheck_service=True,
        file_system_poll_wait_seconds=1,
    ) as server:
        wait_for(lambda: str(late) in server.said(), 60)
        end = time.monotonic() + 3
        while time.monotonic() < end:
            assert not _is_healthy(server)
            time.sleep(0.1)
        assert not server.has_ended()
        exports.copy("two", late / "1")
        wait_for(lambda: _is_healthy(server))
        for name in ("early", "late"):
            assert server.post(name, ROW)[0] == 200


@row("A3", tf_serving="what fails after the start leaves it serving")
def test_a_later_version_that_fails_leaves_it_serving(reloads, exports):
    base = exports.copy("two", reloads.folder / "m" / "1")
    reloads.load(model_config("m", base))
    exports.junk(base / "2")
    wait_for(lambda: reloads.server.states("m").get(2) == 50)
    assert reloads.server.post("m", ROW)[0] == 200


@row(
    "A14",
    tf_serving="it listens on all interfaces",
    here="it listens on localhost; `--host=0.0.0.0` says all, so add it to command "
    "lines that come from there",
)
def test_it_listens_on_localhost_alone(server):
    for port in (server.port, server.rest_port):
        socket.create_connection(("127.0.0.1", port), 5).close()
        with pytest.raises(OSError):
            # Loopback too, but not localhost: as good as another interface.
            socket.create_connection(("127.0.0.2", port), 5)


@row("B30", tf_serving="the profiler answers on the gRPC port", here="UNIMPLEMENTED")
def test_there_is_no_profiler(server):
    with channel_to(server.port) as channel:
        call = channel.unary_unary("/tensorflow.ProfilerService/Profile")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"", timeout=10)
    assert caught.value.code() is Code.UNIMPLEMENTED


def _meets(base, own, other) -> None:
    """Gives the version below `base` a warm-up that waits for the other model's."""
    asked = request(None, signature_name="meet")
    for name, path in (("own", own), ("other", other)):
        tensor = asked.inputs[name]
        tensor.dtype = tf.string.as_datatype_enum
        tensor.tensor_shape.dim.add(size=1)
        tensor.string_val.append(str(path).encode())
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(asked)
    extra = base / "1" / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        writer.write(log.SerializeToString())


@row("B27", tf_serving="at the start models are loaded at the same time")
def test_the_first_models_are_loaded_at_the_same_time(exports, tmp_path):
    bases = {
        name: exports.copy("meeting", tmp_path / name / "1") for name in ("a", "b")
    }
    _meets(bases["a"], tmp_path / "a_is_here", tmp_path / "b_is_here")
    _meets(bases["b"], tmp_path / "b_is_here", tmp_path / "a_is_here")
    config = tmp_path / "models.config"
    config.write_text(
        model_configs(*(model_config(name, base) for name, base in bases.items()))
    )
    with serving(model_config_file=config, max_num_load_retries=0) as server:
        for name in bases:
            assert server.states(name) == {1: 30}
