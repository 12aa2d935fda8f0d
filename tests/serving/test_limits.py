"""The server's bounds on requests: their number, their size, their memory."""

import concurrent.futures
import contextlib
import http.client
import json
import socket
import time

import numpy as np
import pytest
import tensorflow as tf
from served import (
    Code,
    answer,
    example,
    fails,
    metric,
    predicting,
    request,
    rest,
    running,
    save,
    states,
    wait_for,
)
from tensorflow_serving.apis import model_pb2

from serving.errors import ServingError

AVAILABLE = 30
PREDICT = "/v1/models/m:predict"
ROW = {"instances": [[1, 2, 3]]}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("limits") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    return base


def test_more_requests_than_allowed_at_once_are_refused(base):
    # Requests wait for others, so that all of them are there at once.
    file = base.parent / "batching.txt"
    file.write_text(
        "max_batch_size { value: 8 } batch_timeout_micros { value: 700000 }"
    )
    page = base.parent / "monitoring.txt"
    page.write_text("prometheus_config { enable: true }")
    with (
        running(
            model_base_path=str(base),
            enable_batching=True,
            batching_parameters_file=str(file),
            max_concurrent_requests=2,
            monitoring_config_file=str(page),
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        calls = [stub.Predict.future(request()) for _ in range(5)]
        assert [call.code() for call in calls].count(Code.OK) == 2
        refused = [call for call in calls if call.code() is not Code.OK]
        assert {call.code() for call in refused} == {Code.RESOURCE_EXHAUSTED}
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            calls = [pool.submit(rest, server, "POST", PREDICT, ROW) for _ in range(5)]
            answers = [call.result() for call in calls]
        assert [status for status, _ in answers].count(200) == 2
        text = "The server is at its limit of 2 requests at once"
        assert [answered for answered in answers if answered[0] != 200] == [
            (429, {"error": text})
        ] * 3
        # Their places are free again, and they are counted.
        assert answer(stub.Predict(request())) == [12.0]
        _, shown = rest(server, "GET", "/monitoring/prometheus/metrics")
        labels = {"model_name": "", "signature_name": "", "API": "Predict"}
        labels |= {"entrypoint": "REST", "status": "RESOURCE_EXHAUSTED"}
        assert metric(shown, "request_count_by_signature", **labels) == 3
        assert metric(shown, "requests_in_flight", entrypoint="REST") == 0


def test_messages_that_are_too_large_are_refused(base):
    with (
        running(model_base_path=str(base), max_message_bytes=10_000) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        code, message = fails(stub.Predict, request(np.ones([1000, 3])))
        assert code is Code.RESOURCE_EXHAUSTED
        assert "larger than max (12030 vs. 10000)" in message
        assert len(answer(stub.Predict(request(np.ones([800, 3]))))) == 800


def test_tensors_that_are_too_large_are_refused(base):
    with (
        running(model_base_path=str(base), max_tensor_bytes=24) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        assert len(answer(stub.Predict(request(np.ones([2, 3]))))) == 2
        assert fails(stub.Predict, request(np.ones([3, 3]))) == (
            Code.RESOURCE_EXHAUSTED,
            "input x declares the shape [3,3], more than the 24 bytes that a tensor "
            "may take",
        )
        status, answered = rest(server, "POST", PREDICT, {"inputs": [[1, 1, 1]] * 3})
        assert status == 429
        assert answered["error"].startswith("input x declares the shape [3,3]")


def test_bodies_that_arrive_slowly_count_as_memory(base):
    with running(
        model_base_path=str(base), max_memory_bytes=1_000_000, max_receive_seconds=60
    ) as server:
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"
        with socket.create_connection(("localhost", server.rest.port)) as wire:
            wire.sendall(head % PREDICT.encode() + b" " * 990_000)
            refused = {"instances": [[1, 2, 3]], "more": "x" * 10_000}
            # Before it has arrived it might be the one that is refused.
            time.sleep(0.5)
            status, answered = rest(server, "POST", PREDICT, refused)
            assert status == 429
            assert "The requests that are being answered take 9" in answered["error"]
        # It hung up; its bytes are free again.
        wait_for(lambda: rest(server, "POST", PREDICT, refused)[0] == 200)


def test_bodies_that_do_not_come_are_given_up(base):
    with (
        running(model_base_path=str(base), max_receive_seconds=0.3) as server,
        socket.create_connection(("localhost", server.rest.port)) as wire,
    ):
        head = b"POST %s HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{"
        wire.sendall(head % PREDICT.encode())
        wire.settimeout(20)
        answered = http.client.HTTPResponse(wire)
        answered.begin()
        assert answered.status == 504
        text = "The request's body did not come within 0.3 s"
        assert json.loads(answered.read()) == {"error": text}


def test_strings_take_what_they_are_and_where_they_stand(base):
    serialized = example(1, 2, 3).SerializeToString()
    most = 100
    # 32 bytes for a string's place: one fits, two do not, though only one was sent.
    assert 32 + len(serialized) <= most < 2 * (32 + len(serialized))
    assert max(64 + len(serialized), 2 * len(serialized)) <= most

    def asked(rows: int):
        made = request(None, signature_name="regress")
        proto = tf.make_tensor_proto([serialized])
        proto.tensor_shape.dim[0].size = rows
        made.inputs["inputs"].CopyFrom(proto)
        return made

    with (
        running(model_base_path=str(base), max_tensor_bytes=most) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        assert answer(stub.Predict(asked(1)), "outputs") == [12.0]
        assert fails(stub.Predict, asked(2)) == (
            Code.RESOURCE_EXHAUSTED,
            "input inputs declares the shape [2], more than the 100 bytes that a "
            "tensor may take",
        )


def test_what_json_takes_when_it_is_read_counts(base):
    file = base.parent / "pairs.txt"
    file.write_text(
        "max_batch_size { value: 2 } batch_timeout_micros { value: 60000000 }"
    )
    monitoring = base.parent / "monitoring.txt"
    monitoring.write_text('prometheus_config { enable: true path: "/metrics" }')
    body = '{"instances": [[1, 2, 3]]}'
    assert len(body) == 26
    with (
        running(
            model_base_path=str(base),
            enable_batching=True,
            batching_parameters_file=str(file),
            monitoring_config_file=str(monitoring),
            max_memory_bytes=1000,
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        # 24 bytes for each of the text, and 12 for the tensor; it waits for another.
        waiting = pool.submit(rest, server, "POST", PREDICT, body)

        def is_waiting() -> bool:
            _, page = rest(server, "GET", "/metrics")
            labels = {"model_name": "m", "signature_name": "serving_default"}
            return metric(page, "batching:requests_in_flight", **labels) == 1

        wait_for(is_waiting)
        status, answered = rest(server, "POST", PREDICT, body)
        assert (status, answered["error"]) == (
            429,
            "The requests that are being answered take 636 of 1000 bytes; this one "
            "takes 624",
        )
        # As a message it is 12 bytes and some names.
        assert answer(stub.Predict(request())) == [12.0]
        assert waiting.result()[0] == 200


def test_one_that_is_alone_is_read_whatever_it_takes(base):
    with (
        running(model_base_path=str(base), max_memory_bytes=1) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        assert states(server.grpc.ports[0]) == {1: AVAILABLE}
        # What it unpacks to comes on top.
        code, message = fails(stub.Predict, request())
        assert code is Code.RESOURCE_EXHAUSTED
        assert message.endswith(" of 1 bytes; this one takes 12")


def _known(server, spec):
    with contextlib.suppress(ServingError):
        return server.catalog.statuses(spec)[0]


def test_warm_up_does_not_wait_for_the_traffics_memory(base, tmp_path):
    (tmp_path / "m").mkdir()
    save(tmp_path / "m" / "1", 1.0)
    with running(
        model_base_path=str(tmp_path / "m"), max_memory_bytes=1_000_000
    ) as server:
        with server.service.limits.memory(1_000_000):
            save(tmp_path / "m" / "2", 2.0, warmup=[request()])
            # A request for the states would be refused.
            spec = model_pb2.ModelSpec(name="m")
            spec.version.value = 2
            wait_for(lambda: _known(server, spec) and _known(server, spec).state > 20)
        assert states(server.grpc.ports[0])[2] == AVAILABLE
