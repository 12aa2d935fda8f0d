"""The command in a process of its own: flags, signals, clients written by others."""

import contextlib
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator

import pytest
import tensorflow as tf
from served import (
    Process,
    answer,
    free_port,
    managing,
    predicting,
    request,
    save,
    save_any,
    states,
    wait_for,
)
from tensorflow_serving.apis import model_management_pb2

from serving import server as command


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("command") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    return base


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as ended:
        command.main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out.startswith("TensorFlow ModelServer")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--rest_api_port=70000"], "--rest_api_port must be from 0 to 65535"),
        (["--grpc_max_threads=0"], "--grpc_max_threads must be at least 1. Received"),
        (["--grpc_channel_arguments=a"], "--grpc_channel_arguments must be k=v,k=v"),
        (["--port=0"], "--port=0 leaves nothing to listen on"),
        (["--ssl_config_file=EMPTY"], "must set server_key and server_cert"),
        (["--ssl_config_file=VERIFY"], "client_verify needs custom_ca"),
        (["--ssl_config_file=/nowhere"], "Error reading tensorflow.serving.SSLConfig"),
        (["--monitoring_config_file=BAD"], "Error parsing text-format"),
        (["--enable_batching", "--batching_parameters_file=BAD"], "BatchingParameters"),
    ],
)
def test_a_bad_flag_is_one_line(base, capsys, arguments, message):
    (base.parent / "BAD").write_text("oops {")
    (base.parent / "EMPTY").write_text("")
    (base.parent / "VERIFY").write_text(
        'server_key: "k" server_cert: "c" client_verify: true'
    )
    given = [f"--model_base_path={base}", f"--port={free_port()}"]
    for flag in arguments:
        for name in ("BAD", "EMPTY", "VERIFY"):
            flag = flag.replace(f"={name}", f"={base.parent / name}")
        given.append(flag)
    assert command.main(given) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--model_base_path or --model_config_file must say what to serve"),
        (
            ["--model_base_path=/x", "--batching_parameters_file=/y"],
            "--batching_parameters_file is set without --enable_batching",
        ),
        (
            ["--model_config_file=BAD"],
            "Error parsing text-format tensorflow.serving.ModelServerConfig",
        ),
    ],
)
def test_a_bad_command_line_is_one_line(tmp_path, capsys, arguments, message):
    (tmp_path / "bad").write_text("model_config_list { oops }")
    path = str(tmp_path / "bad")
    assert command.main([flag.replace("BAD", path) for flag in arguments]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert message in line


def test_an_address_in_use_is_one_line(base, capsys):
    with _process(base) as server:
        _wait(server.port)
        given = [f"--model_base_path={base}", f"--port={server.port}"]
        assert command.main(given) == 2
    said = f"gRPC cannot listen on localhost:{server.port}: Address already in use"
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"error: {said}"


@pytest.mark.parametrize(
    "arguments, reason",
    [
        (["--grpc_socket_path=/nowhere/at/all"], "No such file or directory"),
        (["--grpc_socket_path=/" + "x" * 200], "AF_UNIX path too long"),
        (["--host=nowhere.invalid"], "Name or service not known|name resolution"),
        (["--host=192.0.2.1"], "Cannot assign requested address"),
        (["--ssl_config_file=SSL"], "certificate of --ssl_config_file is not sound"),
    ],
    ids=["folder", "path", "name", "address", "certificate"],
)
def test_why_nothing_can_listen_there_is_said(base, capsys, arguments, reason):
    ssl = base.parent / "garbage.txt"
    ssl.write_text('server_key: "no key" server_cert: "no certificate"')
    given = [f"--model_base_path={base}", f"--port={free_port()}", *arguments]
    assert command.main([flag.replace("SSL", str(ssl)) for flag in given]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: gRPC cannot listen on ")
    assert re.search(reason, line)


def test_a_rest_port_in_use_is_one_line(base):
    with socket.socket() as taken:
        taken.bind(("localhost", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with _process(base, "--host=127.0.0.1", f"--rest_api_port={port}") as server:
            assert server.process.wait(timeout=60) == 2
            said = server.end()
    assert f"error: REST cannot listen on 127.0.0.1:{port}" in said
    assert "Traceback" not in said


def test_sigterm_does_not_wait_for_a_version_that_does_not_load(tmp_path):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(b"cut off")
    # It is tried again after a minute, five times.
    with _process(tmp_path) as server:
        for line in server.process.stderr:
            if "trying again in 60 s" in line:
                break
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=30) == 0


@contextlib.contextmanager
def _process(base, *more: str, port: int | None = None) -> Iterator[Process]:
    given = ["--model_name=m", f"--model_base_path={base}", *more]
    server = Process(*given, port=port)
    try:
        yield server
    finally:
        server.end()


def _wait(port: int) -> None:
    with predicting(port) as stub:
        stub.Predict(request(), timeout=60, wait_for_ready=True)


def test_it_serves_again_after_kill_9(base):
    with _process(base) as server:
        _wait(server.port)
        server.process.kill()
        server.process.wait()
        with _process(base, port=server.port) as again, predicting(again.port) as stub:
            response = stub.Predict(request(), timeout=60, wait_for_ready=True)
            assert answer(response) == [12.0]


def test_curl_and_ovmsclient(base):
    pytest.importorskip("ovmsclient")
    rest_port = free_port()
    with _process(base, f"--rest_api_port={rest_port}") as server:
        _wait(server.port)
        url = f"http://localhost:{rest_port}/v1/models/m"
        body = '{"instances": [[1, 2, 3]]}'
        curl = subprocess.run(
            ["curl", "-sS", "-d", body, "-X", "POST", f"{url}:predict"],
            capture_output=True,
            check=True,
        )
        (row,) = json.loads(curl.stdout)["predictions"]
        assert row == {"y": 12.0, "name_bytes": {"b64": "MTI="}}
        # It has the messages' classes too, which one process cannot hold twice.
        script = textwrap.dedent(
            """
            import sys
            import numpy as np
            from ovmsclient import make_grpc_client, make_http_client
            grpc_port, rest_port = sys.argv[1:]
            x = np.array([[1, 2, 3]], np.float32)
            for client in (
                make_grpc_client(f"localhost:{grpc_port}"),
                make_http_client(f"localhost:{rest_port}"),
            ):
                assert client.get_model_status("m")[1]["state"] == "AVAILABLE"
                metadata = client.get_model_metadata("m")
                # Over HTTP it looks for another server's spelling.
                if "inputs" in metadata:
                    assert metadata["inputs"]["x"]["shape"] == [-1, 3]
                else:
                    assert metadata["model_spec"]["version"] == "1"
                found = client.predict({"x": x}, "m")
                assert found["y"].tolist() == [12.0], found
                try:
                    client.predict({"q": x}, "m")
                except Exception as error:
                    assert "q" in str(error) or "not found" in str(error), error
                else:
                    raise AssertionError("an unknown input was taken")
            print("both")
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(server.port), str(rest_port)],
            capture_output=True,
            text=True,
        )
        assert done.stdout == "both\n", done.stderr


@pytest.mark.slow
def test_memory_comes_back_when_versions_go(tmp_path):
    module = tf.Module()
    module.large = tf.Variable(tf.ones([32 << 20]))  # 128 MiB

    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def predict(x):
        return {"y": tf.reduce_sum(x, 1) * module.large[0]}

    (tmp_path / "m").mkdir()
    save_any(tmp_path / "aside", module, {"serving_default": predict})

    def come(number: int) -> None:
        shutil.copytree(tmp_path / "aside", tmp_path / f"aside-{number}")
        (tmp_path / f"aside-{number}").rename(tmp_path / "m" / str(number))

    come(1)
    with _process(tmp_path / "m") as server:
        _wait(server.port)
        alone, held = server.memory(), []
        for number in range(2, 8):
            come(number)
            wait_for(lambda n=number: states(server.port).get(n) == 30)
            wait_for(lambda n=number: states(server.port)[n - 1] == 50)
            _wait(server.port)
            held.append(server.memory())
        with managing(server.port) as stub:
            asked = model_management_pb2.ReloadConfigRequest()
            asked.config.model_config_list.SetInParent()
            stub.HandleReloadConfigRequest(asked)
        wait_for(lambda: server.memory() < held[-1] - (96 << 20))
    # One version's weights more would be 128 MiB.
    assert max(held) - alone < 64 << 20
