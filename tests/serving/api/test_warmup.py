"""Recorded requests: every kind is run before a version serves."""

import pytest
import tensorflow as tf
from served import (
    example,
    metric,
    request,
    rest,
    running,
    save,
    states,
)
from tensorflow_serving.apis import prediction_log_pb2

from serving.models.loader import Loader

AVAILABLE = 30


@pytest.fixture
def base(tmp_path):
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def _log(kind: str) -> prediction_log_pb2.PredictionLog:
    log = prediction_log_pb2.PredictionLog()
    if kind in ("predict", "a wrong shape"):
        x = [1, 2] if kind == "a wrong shape" else [[1, 2, 3]]
        log.predict_log.request.CopyFrom(request(x))
        return log
    if kind == "session_run":
        log.session_run_log.SetInParent()
        return log
    inner = getattr(log, f"{kind}_log").request
    inner.input.example_list.examples.append(example(1, 2, 3))
    if kind == "multi_inference":
        task = inner.tasks.add(method_name="tensorflow/serving/regress")
        task.model_spec.name, task.model_spec.signature_name = "m", "regress"
    else:
        inner.model_spec.name, inner.model_spec.signature_name = "m", kind
    return log


@pytest.mark.parametrize(
    "records, said",
    [
        (["predict", "classify", "regress", "multi_inference"], None),
        (["empty", "predict", "empty"], None),
        (["session_run"], "Unsupported log_type for warmup: session_run_log"),
        (["bytes"], "Failed to parse warmup record"),
        (["predict"] * 1000, None),
        (["predict"] * 1001, "exceeds the maximum (1000)"),
        (["predict", "a wrong shape"], "input x has the wrong shape: expected [?,3]"),
    ],
    ids=[
        "every kind",
        "no kind",
        "another kind",
        "not a log",
        "many",
        "too many",
        "one that fails",
    ],
)
def test_recorded_requests_are_run_before_a_version_serves(base, records, said):
    save(base.parent / "whole", 2.0)
    extra = base.parent / "whole" / "assets.extra"
    extra.mkdir()
    with tf.io.TFRecordWriter(str(extra / "tf_serving_warmup_requests")) as writer:
        for kind in records:
            if kind == "bytes":
                writer.write(b"\xff\xff")
            elif kind == "empty":
                writer.write(prediction_log_pb2.PredictionLog().SerializeToString())
            else:
                writer.write(_log(kind).SerializeToString())
    (base.parent / "whole").rename(base / "1")
    with running(model_base_path=str(base)) as server:
        _, answered = rest(server, "GET", "/v1/models/m")
        (status,) = answered["model_version_status"]
        if said is None:
            assert status["state"] == "AVAILABLE"
        else:
            assert status["state"] == "END"
            assert said in status["status"]["error_message"]
    with running(model_base_path=str(base), enable_model_warmup=False) as server:
        assert states(server.grpc.ports[0]) == {1: AVAILABLE}


@pytest.mark.parametrize(
    "flags, runs",
    [
        ({}, 2),
        ({"num_request_iterations_for_warmup": 3}, 6),
        ({"num_request_iterations_for_warmup": 0}, 2),
        ({"enable_model_warmup": False}, 0),
    ],
)
def test_each_request_is_run_so_many_times(base, flags, runs):
    save(base / "1", 2.0, warmup=[request(), request()])
    (base.parent / "monitoring.txt").write_text("prometheus_config { enable: true }")
    with running(
        model_base_path=str(base),
        monitoring_config_file=str(base.parent / "monitoring.txt"),
        **flags,
    ) as server:
        _, page = rest(server, "GET", "/monitoring/prometheus/metrics")
    labels = {"model_name": "m", "API": "Predict", "runtime": "TF1"}
    assert metric(page, "runtime_latency_count", **labels) == runs
    assert "request_count{" not in page


def test_a_version_that_fails_its_requests_is_closed(base, monkeypatch):
    unloaded, unload = [], Loader.unload

    def note(loader, name, model):
        unloaded.append(model.path)
        unload(loader, name, model)

    monkeypatch.setattr(Loader, "unload", note)
    save(base / "1", 1.0)
    save(base / "2", 2.0, warmup=[request([1, 2])])
    with running(model_base_path=str(base)):
        assert unloaded == [str(base / "2")]


def test_recorded_requests_may_be_larger_than_the_traffics(base):
    # One that is alone is admitted whatever it takes.
    save(base / "1", 2.0, warmup=[request()])
    with running(model_base_path=str(base), max_memory_bytes=1) as server:
        assert states(server.grpc.ports[0]) == {1: AVAILABLE}
