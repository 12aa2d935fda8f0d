"""The Prometheus page over a real socket: where it is, and what it counts."""

import time

import pytest
from served import (
    answer,
    fails,
    metric,
    predicting,
    request,
    rest,
    running,
    save,
    wait_for,
)

from serving.monitoring import Histogram

DEFAULT = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("monitoring") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    return base


def _serve(base, text: str, **flags):
    path = base.parent / "monitoring.txt"
    path.write_text(text)
    return running(model_base_path=str(base), monitoring_config_file=str(path), **flags)


def test_requests_are_counted_and_timed(base):
    with (
        _serve(base, "prometheus_config { enable: true }") as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        for _ in range(3):
            stub.Predict(request())
        fails(stub.Predict, request([1]))
        # Names that clients make up must not become labels.
        fails(stub.Predict, request(name="foo"))
        fails(stub.Predict, request(signature_name="made up"))
        body = {"instances": [[1, 2, 3]]}
        rest(server, "POST", "/v1/models/m:predict", body)
        rest(server, "GET", "/v1/models/m")
        status, page = rest(server, "GET", DEFAULT)
    assert status == 200

    def count(name, **labels):
        return metric(page, name, **labels)

    assert count("request_count", model_name="m", status="OK") == 5
    assert count("request_count", model_name="m", status="INVALID_ARGUMENT") == 1
    assert count("request_count", model_name="m", status="FAILED_PRECONDITION") == 1
    assert count("request_count", model_name="", status="NOT_FOUND") == 1
    assert "foo" not in page and "made up" not in page
    # Of those that were answered; REST has the word in the path.
    grpc = {"model_name": "m", "API": "Predict", "entrypoint": "GRPC"}
    over_rest = grpc | {"API": "predict", "entrypoint": "REST"}
    assert count("request_latency_count", **grpc) == 3
    assert count("request_latency_count", **over_rest) == 1
    assert 0 < count("request_latency_sum", **grpc) < 60e6
    runtime = {"model_name": "m", "API": "Predict", "runtime": "TF1"}
    assert count("runtime_latency_count", **runtime) == 4
    signature = {"signature_name": "serving_default", "API": "Predict"}
    for entrypoint, expected in (("GRPC", 3), ("REST", 1)):
        labels = {"model_name": "m"} | signature | {"entrypoint": entrypoint}
        assert count("request_count_by_signature", **labels, status="OK") == expected
    assert count("requests_in_flight", entrypoint="GRPC") == 0


def test_the_page_is_where_the_config_says(base):
    with _serve(base, 'prometheus_config { enable: true path: "/x" }') as server:
        assert rest(server, "GET", "/x")[0] == 200
        assert rest(server, "GET", DEFAULT)[0] == 404


@pytest.mark.parametrize("text", ["", "prometheus_config { }"])
def test_there_is_no_page_unless_it_is_enabled(base, text):
    with _serve(base, text) as server:
        answered = rest(server, "GET", DEFAULT)
    assert answered == (404, {"error": f"Not found: {DEFAULT}"})


def test_what_is_under_way_and_how_long_it_took(base):
    (base.parent / "batching.txt").write_text(
        "max_batch_size { value: 2 } batch_timeout_micros { value: 60000000 }"
    )
    model, batch = {"model_name": "m"}, {"signature_name": "serving_default"}

    def shown(name: str, **labels) -> float:
        return metric(rest(server, "GET", DEFAULT)[1], name, **labels)

    with (
        _serve(
            base,
            "prometheus_config { enable: true }",
            enable_batching=True,
            batching_parameters_file=str(base.parent / "batching.txt"),
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        # It waits for a second one to fill its batch.
        waiting = stub.Predict.future(request())
        wait_for(
            lambda: shown("batching:requests_in_flight", **model, **batch) == 1,
        )
        assert shown("requests_in_flight", entrypoint="GRPC") == 1
        time.sleep(0.2)
        assert answer(stub.Predict(request())) == [12.0]
        assert answer(waiting.result(timeout=20)) == [12.0]
        assert shown("batching:requests_in_flight", **model, **batch) == 0
        _, page = rest(server, "GET", DEFAULT)
    waited = {
        "request_latency": model | {"API": "Predict", "entrypoint": "GRPC"},
        "runtime_latency": model | {"API": "Predict", "runtime": "TF1"},
        "batching:queuing_latency": model | batch,
        "batching:batch_delay_us": model | batch,
    }
    for name, labels in waited.items():
        # Microseconds: the first one waited for 0.2 s, all of it for less than 60.
        assert 200_000 <= metric(page, f"{name}_sum", **labels) < 60e6, name
    # A bucket holds what is at most its bound.
    size = "batching:input_batch_size_bucket"
    counts = [metric(page, size, **model, **batch, le=bound) for bound in "124"]
    assert counts == [0, 1, 1]
    assert metric(page, size, **model, **batch, le="+Inf") == 1


def test_sums_keep_their_last_digits():
    # After weeks, what one more request adds.
    histogram = Histogram("h", [], "", [1.0, 1e12])
    for value in (1e12, 1.0):
        histogram.observe(value)
    lines = histogram.page()
    assert ":tensorflow:serving:h_sum 1000000000001.0" in lines
    assert ':tensorflow:serving:h_bucket{le="1"} 1' in lines
    assert ':tensorflow:serving:h_bucket{le="1e+12"} 2' in lines
