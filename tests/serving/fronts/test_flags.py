"""What each flag of the server does, over real sockets."""

import concurrent.futures
import contextlib
import pathlib
import socket
import threading
import time

import grpc
import pytest
import tensorflow as tf
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import (
    Code,
    Process,
    answer,
    channel_to,
    fails,
    managing,
    metric,
    predicting,
    request,
    rest,
    running,
    save,
    states,
    wait_for,
)
from tensorflow_serving.apis import (
    model_management_pb2,
    prediction_service_pb2_grpc,
)

from serving.fronts.flags import Flags, parse_flags
from serving.models import loader
from serving.models.loader import Loader
from serving.models.saved_model import load_saved_model

AVAILABLE = 30
PREDICT = "/v1/models/m:predict"
ROW = {"instances": [[1, 2, 3]]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("flags") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    return base


def test_names_and_defaults_are_those_of_tensorflow_model_server():
    expected = {
        "enable_signature_method_name_check": False,
        "enable_per_model_batching_parameters": False,
        "port": 8500,
        "grpc_socket_path": "",
        "rest_api_port": 0,
        "rest_api_num_threads": 0,
        "rest_api_timeout_in_ms": 30000,
        "rest_api_enable_cors_support": False,
        "model_name": "default",
        "model_base_path": "/m",
        "model_config_file": "",
        "model_config_file_poll_wait_seconds": 0,
        "enable_batching": False,
        "batching_parameters_file": "",
        "monitoring_config_file": "",
        "file_system_poll_wait_seconds": 1,
        "max_num_load_retries": 5,
        "load_retry_interval_micros": 60_000_000,
        "num_load_threads": 0,
        "num_unload_threads": 0,
        "grpc_channel_arguments": "",
        "enable_model_warmup": True,
        "num_request_iterations_for_warmup": 1,
        "allow_version_labels_for_unavailable_models": False,
        "enable_serialization_as_tensor_content": False,
        "ssl_config_file": "",
        "tensorflow_session_parallelism": 0,
        "tensorflow_intra_op_parallelism": 0,
        "tensorflow_inter_op_parallelism": 0,
        "enable_grpc_healthcheck_service": False,
        "saved_model_tags": "serve",
    }
    flags = vars(parse_flags(["--model_base_path=/m"]))
    assert expected.items() <= flags.items()
    assert flags["host"] == "localhost"


def test_a_flag_without_a_value_is_true():
    given = ["--model_base_path=/m", "--enable_batching", "--enable_model_warmup=false"]
    flags = parse_flags(given)
    assert (flags.enable_batching, flags.enable_model_warmup) == (True, False)


def _save_two_meta_graphs(folder: pathlib.Path) -> None:
    v1 = tf.compat.v1
    builder = v1.saved_model.Builder(str(folder))
    for factor, tags in ((2.0, ["serve"]), (3.0, ["serve", "large"])):
        with tf.Graph().as_default(), v1.Session() as session:
            x = v1.placeholder(tf.float32, [None, 3], "x")
            y = factor * tf.reduce_sum(x, 1)
            signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
            signatures = {"serving_default": signature}
            if factor == 2.0:
                builder.add_meta_graph_and_variables(session, tags, signatures)
            else:
                builder.add_meta_graph(tags, signatures)
    builder.save()


@pytest.mark.parametrize("tags, value", [("serve", 12.0), ("large,serve", 18.0)])
def test_saved_model_tags_choose_the_meta_graph(tmp_path, tags, value):
    _save_two_meta_graphs(tmp_path / "1")
    with (
        running(model_base_path=str(tmp_path), saved_model_tags=tags) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        assert answer(stub.Predict(request())) == [value]


def test_tags_that_no_meta_graph_has_are_in_the_status(base):
    with running(model_base_path=str(base), saved_model_tags="none") as server:
        _, answered = rest(server, "GET", "/v1/models/m")
    (status,) = answered["model_version_status"]
    assert status["state"] == "END"
    assert status["status"]["error_code"] != "OK"
    assert "none" in status["status"]["error_message"]


@pytest.mark.parametrize(
    "flags, threads",
    [
        ({"tensorflow_session_parallelism": 3}, (3, 3)),
        ({"tensorflow_intra_op_parallelism": 2}, (2, 0)),
        (
            {"tensorflow_inter_op_parallelism": 4, "tensorflow_session_parallelism": 1},
            (1, 4),
        ),
    ],
)
def test_parallelism_is_the_sessions(base, monkeypatch, flags, threads):
    threads_of_sessions = []

    def load(files, config, *settings):
        threads_of_sessions.append(
            (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads)
        )
        return load_saved_model(files, config, *settings)

    monkeypatch.setattr(loader, "load_saved_model", load)
    with running(model_base_path=str(base), **flags):
        assert threads_of_sessions == [threads]


@contextlib.contextmanager
def _two_models(base, **flags):
    """Models a and b of the same folder."""
    config = "".join(
        f'config {{ name: "{name}" base_path: "{base}" }} ' for name in "ab"
    )
    path = base.parent / "two.config"
    path.write_text(f"model_config_list {{ {config} }}")
    with running(model_config_file=str(path), **flags) as server:
        yield server


def test_versions_are_loaded_at_once(base, monkeypatch):
    both = threading.Barrier(2)

    def load(files, *settings):
        both.wait(20)
        return load_saved_model(files, *settings)

    monkeypatch.setattr(loader, "load_saved_model", load)
    with _two_models(base, num_load_threads=2) as server:
        port = server.grpc.ports[0]
        assert states(port, "a") == states(port, "b") == {1: AVAILABLE}


def test_versions_are_unloaded_at_once(base, monkeypatch):
    both, gone, unload = threading.Barrier(2), [], Loader.unload

    def unload_both(loader, name, model):
        both.wait(20)
        unload(loader, name, model)
        gone.append(name)

    with _two_models(base, num_unload_threads=2) as server:
        monkeypatch.setattr(Loader, "unload", unload_both)
        with managing(server.grpc.ports[0]) as stub:
            asked = model_management_pb2.ReloadConfigRequest()
            asked.config.model_config_list.SetInParent()
            stub.HandleReloadConfigRequest(asked)
        wait_for(lambda: sorted(gone) == ["a", "b"])


def _batching(base, size: int, seconds: float) -> dict:
    """Flags with which requests wait so long for `size` rows."""
    path = base.parent / f"batching-{size}.txt"
    path.write_text(
        f"max_batch_size {{ value: {size} }} "
        f"batch_timeout_micros {{ value: {int(seconds * 1e6)} }}"
    )
    return {
        "model_base_path": str(base),
        "enable_batching": True,
        "batching_parameters_file": str(path),
    }


def test_rest_has_threads_of_its_own(base):
    # Two calls fill a batch; one alone would wait for a minute.
    flags = _batching(base, 2, 60.0) | {
        "grpc_max_threads": 1,
        "rest_api_num_threads": 2,
        "rest_api_timeout_in_ms": 20_000,
    }
    with (
        running(**flags) as server,
        concurrent.futures.ThreadPoolExecutor(2) as pool,
    ):
        calls = [pool.submit(rest, server, "POST", PREDICT, ROW) for _ in range(2)]
        assert [call.result()[0] for call in calls] == [200, 200]


def test_base_paths_are_looked_at_once(tmp_path):
    base = tmp_path / "m"
    base.mkdir()
    save(base / "1", 1.0)
    with running(model_base_path=str(base), file_system_poll_wait_seconds=0) as server:
        save(base / "2", 2.0)
        time.sleep(0.5)
        assert states(server.grpc.ports[0]) == {1: AVAILABLE}


def test_health_is_not_served_unless_asked_for(base):
    for asked_for in (False, True):
        with (
            running(
                model_base_path=str(base), enable_grpc_healthcheck_service=asked_for
            ) as server,
            channel_to(server.grpc.ports[0]) as channel,
        ):
            health = health_pb2_grpc.HealthStub(channel)
            for name in ("", "tensorflow.serving.PredictionService"):
                asked = health_pb2.HealthCheckRequest(service=name)
                if asked_for:
                    serving = health_pb2.HealthCheckResponse.SERVING
                    assert health.Check(asked).status == serving
                else:
                    assert fails(health.Check, asked)[0] is Code.UNIMPLEMENTED


def test_it_listens_on_a_unix_socket_too(base, tmp_path):
    path = tmp_path / "socket"
    with running(model_base_path=str(base), grpc_socket_path=str(path)) as server:
        with grpc.insecure_channel(f"unix:{path}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            assert answer(stub.Predict(request(), timeout=20)) == [12.0]
        with predicting(server.grpc.ports[0]) as stub:
            assert answer(stub.Predict(request())) == [12.0]


def test_grpc_takes_further_arguments(base):
    large = [("note", "x" * 30_000)]
    more = "grpc.max_metadata_size=65536,grpc.absolute_max_metadata_size=65536"
    for arguments in ("", more):
        with (
            running(
                model_base_path=str(base), grpc_channel_arguments=arguments
            ) as server,
            predicting(server.grpc.ports[0]) as stub,
        ):
            call = stub.Predict.future(request(), metadata=large, timeout=20)
            expected = Code.OK if arguments else Code.RESOURCE_EXHAUSTED
            assert call.code() is expected


def test_in_a_process_of_its_own(base):
    """What acts on the whole process: threads, and where it listens."""
    server = Process(
        "--model_name=m",
        f"--model_base_path={base}",
        "--host=127.0.0.2",
        "--tensorflow_inter_op_parallelism=9",
    )
    try:
        with grpc.insecure_channel(f"127.0.0.2:{server.port}") as channel:
            stub = prediction_service_pb2_grpc.PredictionServiceStub(channel)
            stub.Predict(request(), timeout=60, wait_for_ready=True)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", server.port))
        tasks = pathlib.Path(f"/proc/{server.process.pid}/task").iterdir()
        names = [(task / "comm").read_text().strip() for task in tasks]
        assert names.count("tf_Compute") == 9
    finally:
        server.end()


def test_the_name_of_the_threads_is_a_label_of_the_metrics(base):
    flags = _batching(base, 1, 0.0)
    with open(flags["batching_parameters_file"], "a") as file:
        file.write('thread_pool_name { value: "x" }')
    with running(**flags) as server, predicting(server.grpc.ports[0]) as stub:
        stub.Predict(request())
        page = server.monitoring.page()
    name = "batching_session:queuing_latency_count"
    assert metric(page, name, thread_pool_name="x") == 1


def test_flags_of_tensorflow_model_server_are_accepted_or_refused_by_name(capsys):
    accepted = "--enable_profiler", "--num_tflite_pools=3", "--use_alts_credentials=0"
    parse_flags(["--model_base_path=/m", *accepted])
    assert capsys.readouterr().err.splitlines() == [
        "--enable_profiler has no effect here.",
        "--num_tflite_pools has no effect here.",
    ]
    refused = "--mixed_precision=bfloat16", "--xla_cpu_compilation_enabled"
    with pytest.raises(ValueError, match="--mixed_precision=bfloat16, --xla_cpu_comp"):
        parse_flags(["--model_base_path=/m", *refused])


def test_flags_that_depend_on_others_say_so(capsys):
    given = "--model_config_file=/f", "--model_base_path=/m"
    flags = parse_flags([*given, "--enable_per_model_batching_parameters"])
    assert flags.model_config_file == "/f"
    assert capsys.readouterr().err.splitlines() == [
        "--model_base_path and --model_name have no effect: --model_config_file says "
        "what is served.",
        "--enable_per_model_batching_parameters needs --enable_batching.",
    ]


@pytest.mark.parametrize(
    "flag, value, least",
    [
        ("rest_api_num_threads", -1, 0),
        ("num_unload_threads", -1, 0),
        ("num_request_iterations_for_warmup", -1, 0),
        ("max_concurrent_requests", 0, 1),
        ("max_message_bytes", 0, 1),
        ("max_receive_seconds", 0, 0.001),
        ("drain_seconds", -1, 0),
    ],
)
def test_numbers_that_are_too_small(flag, value, least):
    text = rf"--{flag} must be at least {least}. Received: {value}"
    with pytest.raises(ValueError, match=text):
        Flags(model_base_path="/m", **{flag: value})
