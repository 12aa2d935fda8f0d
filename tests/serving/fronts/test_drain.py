"""SIGTERM: what has arrived is answered, and the process ends in time."""

import concurrent.futures
import contextlib
import http.client
import json
import signal
import threading
import time
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from served import (
    Code,
    Process,
    answer,
    channel_to,
    free_port,
    predicting,
    request,
    running,
    save,
)


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("drain") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    # Requests wait in the queue, which takes no processor.
    for seconds in (3, 60):
        (base.parent / f"wait-{seconds}.txt").write_text(
            "max_batch_size { value: 1000 } "
            f"batch_timeout_micros {{ value: {seconds}000000 }}"
        )
    return base


@contextlib.contextmanager
def _process(base, seconds: int, *more: str) -> Iterator[Process]:
    """A server whose requests take so many seconds."""
    file = base.parent / f"wait-{seconds}.txt"
    server = Process(
        "--model_name=m",
        f"--model_base_path={base}",
        "--enable_batching",
        f"--batching_parameters_file={file}",
        *more,
    )
    try:
        yield server
    finally:
        server.end()


def _wait(port: int) -> None:
    """Until it serves; asks for what is not batched."""
    with channel_to(port) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)


def _post(port: int, x: float) -> tuple[int, dict]:
    connection = http.client.HTTPConnection("localhost", port, timeout=60)
    connection.request(
        "POST", "/v1/models/m:predict", json.dumps({"instances": [[x, 0, 0]]})
    )
    response = connection.getresponse()
    answered = response.status, json.loads(response.read())
    connection.close()
    return answered


def test_sigterm_answers_all_that_has_arrived(base):
    health = "--enable_grpc_healthcheck_service"
    with _process(base, 3, health) as server, channel_to(server.port) as channel:
        _wait(server.port)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest()
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        with predicting(server.port) as stub:
            # More than there are threads; all have arrived when the signal comes.
            calls = [stub.Predict.future(request([[i, 0, 0]])) for i in range(150)]
            time.sleep(1.5)
            server.process.send_signal(signal.SIGTERM)
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            answers = [call.result(timeout=60) for call in calls]
        assert [answer(response) for response in answers] == [
            [2.0 * i] for i in range(150)
        ]
        assert server.process.wait(timeout=60) == 0


def test_sigterm_answers_all_that_has_arrived_over_rest(base):
    port = free_port()
    with (
        _process(base, 3, f"--rest_api_port={port}") as server,
        concurrent.futures.ThreadPoolExecutor(40) as pool,
    ):
        _wait(server.port)
        # One that is open and idle does not keep the process.
        idle = http.client.HTTPConnection("localhost", port, timeout=20)
        idle.request("GET", "/v1/models/m")
        idle.getresponse().read()
        calls = [pool.submit(_post, port, i) for i in range(40)]
        time.sleep(1.0)
        server.process.send_signal(signal.SIGTERM)
        for i, call in enumerate(calls):
            status, answered = call.result(timeout=60)
            assert (status, answered["predictions"][0]["y"]) == (200, 2.0 * i)
        assert server.process.wait(timeout=20) == 0
        idle.close()
        with pytest.raises(ConnectionRefusedError):
            _post(port, 1.0)


def test_calls_during_the_drain_are_unavailable(base):
    with _process(base, 3) as server, predicting(server.port) as stub:
        _wait(server.port)
        codes, ended = set(), threading.Event()

        def run():
            while not ended.is_set():
                try:
                    stub.Predict(request(), timeout=30)
                    codes.add(Code.OK)
                except grpc.RpcError as error:
                    codes.add(error.code())
                    ended.wait(0.01)

        threads = [threading.Thread(target=run) for _ in range(8)]
        for thread in threads:
            thread.start()
        ended.wait(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=60) == 0
        ended.set()
        for thread in threads:
            thread.join()
    assert codes == {Code.OK, Code.UNAVAILABLE}


@pytest.mark.parametrize(
    "drain_seconds, ends_within",
    # The HTTP library left alone would wait twice as long, or without an end.
    [(0, 30), pytest.param(10, 18, marks=pytest.mark.slow)],
)
def test_the_drain_ends_though_calls_do_not(base, drain_seconds, ends_within):
    port = free_port()
    with (
        _process(
            base, 60, f"--rest_api_port={port}", f"--drain_seconds={drain_seconds}"
        ) as server,
        predicting(server.port) as stub,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        _wait(server.port)
        over_grpc = stub.Predict.future(request(), timeout=60)
        over_rest = pool.submit(_post, port, 1.0)
        time.sleep(0.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=ends_within) == 0
        assert over_grpc.code() is Code.UNAVAILABLE
        with pytest.raises((OSError, http.client.HTTPException)):
            over_rest.result(timeout=30)


def test_both_fronts_are_drained_at_the_same_time(base, monkeypatch):
    both, drained = threading.Barrier(2), []
    with running(model_base_path=str(base), drain_seconds=7) as server:

        def drain(seconds: float) -> None:
            both.wait(20)
            drained.append(seconds)

        for front in (server.grpc, server.rest):
            monkeypatch.setattr(front, "drain", drain)
        server.drain()
        assert drained == [7, 7]
        monkeypatch.undo()


def test_answers_during_the_drain_end_their_connections(base):
    def asked(body: str | None) -> str | None:
        """What the answer says of its connection."""
        connection = http.client.HTTPConnection("localhost", server.rest.port, 60)
        path = "/v1/models/m"
        if body:
            connection.request("POST", f"{path}:predict", body)
        else:
            connection.request("GET", path)
        response = connection.getresponse()
        response.read()
        connection.close()
        assert response.status == 200
        return response.getheader("Connection")

    with (
        running(
            model_base_path=str(base),
            enable_batching=True,
            batching_parameters_file=str(base.parent / "wait-3.txt"),
        ) as server,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        assert asked(None) is None
        waiting = pool.submit(asked, '{"instances": [[1, 2, 3]]}')
        time.sleep(0.5)
        server.drain()
        assert waiting.result() == "close"


def test_calls_that_the_loop_has_not_seen_yet_have_arrived(base):
    with (
        running(model_base_path=str(base)) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        stub.Predict(request())
        # The loop is busy while the calls come and the drain begins.
        server.grpc._events.loop.call_soon_threadsafe(time.sleep, 0.5)
        calls = [stub.Predict.future(request()) for _ in range(20)]
        server.drain()
        assert [answer(call.result(timeout=20)) for call in calls] == [[12.0]] * 20
