"""The Prometheus page over a real socket: where it is, and what it counts."""

import pytest
from served import (
    fails,
    metric,
    predicting,
    request,
    rest,
    running,
    save,
)

DEFAULT = "/monitoring/prometheus/metrics"


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    base = tmp_path_factory.mktemp("monitoring") / "m"
    base.mkdir()
    save(base / "1", 2.0)
    return base


def _serve(base, text: str):
    path = base.parent / "monitoring.txt"
    path.write_text(text)
    return running(model_base_path=str(base), monitoring_config_file=str(path))


def test_requests_are_counted_and_timed(base):
    with (
        _serve(base, "prometheus_config { enable: true }") as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        for _ in range(3):
            stub.Predict(request())
        fails(stub.Predict, request([[1]]))
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
    latency = {"model_name": "m", "API": "Predict"}
    assert count("request_latency_count", **latency, entrypoint="GRPC") == 5
    assert count("request_latency_count", **latency, entrypoint="REST") == 1
    total = count("request_latency_sum", **latency, entrypoint="GRPC")
    assert 0 < total < 60e6
    assert count("runtime_latency_count", **latency, runtime="TF1") == 4
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
        found = rest(server, "GET", DEFAULT)
    assert found == (404, {"error": f"Not found: {DEFAULT}"})
