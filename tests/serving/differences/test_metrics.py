"""The page for Prometheus."""

import re

import pytest
import tensorflow as tf
from differences import row
from served import request
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
)

ROW = {"instances": [[1.0]]}
SPACE = ":tensorflow:serving:"


def _total(page: str, name: str, *having: str) -> float:
    """The sum of a metric's lines that hold all these texts."""
    lines = re.findall(rf"^{re.escape(SPACE + name)}(\{{.*\}})? (\S+)$", page, re.M)
    return sum(float(v) for labels, v in lines if all(h in labels for h in having))


class _Changes:
    """How much metrics grow from now on."""

    def __init__(self, server):
        self._server, self._before = server, server.metrics()

    def __call__(self, name: str, *having: str) -> float:
        pages = self._server.metrics(), self._before
        now, before = (_total(page, name, *having) for page in pages)
        return now - before


def _predict(server, **spec):
    asked = request(None, name="half_plus_two", **spec)
    asked.inputs["x"].CopyFrom(tf.make_tensor_proto([[1.0]]))
    return server.prediction.Predict(asked, timeout=20)


@row("C5", tf_serving='latency over REST is of API="predict", "classify", "regress"')
@pytest.mark.parametrize(
    "method, body",
    [
        ("predict", ROW),
        ("classify", {"signature_name": "classify_x_to_y", "examples": [{"x": 1.0}]}),
        ("regress", {"signature_name": "regress_x_to_y", "examples": [{"x": 1.0}]}),
    ],
)
def test_latency_over_rest_is_of_the_paths_method(server, method, body):
    changes = _Changes(server)
    assert server.post("half_plus_two", body, method)[0] == 200
    having = 'model_name="half_plus_two"', 'entrypoint="REST"'
    assert changes("request_latency_count", *having, f'API="{method}"') == 1
    assert changes("request_latency_count", *having) == 1


@row("C5", tf_serving='latency over gRPC is of API="Predict"')
def test_latency_over_grpc_is_of_the_call(server):
    changes = _Changes(server)
    _predict(server)
    having = 'model_name="half_plus_two"', 'entrypoint="GRPC"', 'API="Predict"'
    assert changes("request_latency_count", *having) == 1


@row("C5", tf_serving="only answers that are OK are timed")
def test_errors_are_not_timed(server):
    changes = _Changes(server)
    assert server.post("half_plus_two", {"instances": ["text"]})[0] == 400
    with pytest.raises(Exception, match="nothing"):
        _predict(server, signature_name="nothing")
    assert changes("request_latency_count", 'model_name="half_plus_two"') == 0
    assert changes("request_latency_count", 'model_name=""') == 0


@row("C6", tf_serving="request_count counts Predict, Classify and Regress over gRPC")
def test_predictions_are_counted(server):
    changes = _Changes(server)
    _predict(server)
    having = 'model_name="half_plus_two"', 'status="OK"'
    assert changes("request_count", *having) == 1


@row("C6", tf_serving="status and metadata over gRPC are not counted")
def test_questions_about_models_are_not_counted(server):
    changes = _Changes(server)
    asked = get_model_status_pb2.GetModelStatusRequest()
    asked.model_spec.name = "half_plus_two"
    server.models.GetModelStatus(asked, timeout=20)
    asked = get_model_metadata_pb2.GetModelMetadataRequest(
        metadata_field=["signature_def"]
    )
    asked.model_spec.name = "half_plus_two"
    server.prediction.GetModelMetadata(asked, timeout=20)
    assert changes("request_count") == 0


@row(
    "C6",
    tf_serving="a name that is not served is counted as it was sent",
    here='it is counted as model_name="", so that clients make no new labels',
)
def test_names_that_are_not_served_are_no_labels(server):
    changes = _Changes(server)
    assert server.post("nobody_at_all", ROW)[0] == 404
    assert changes("request_count", 'model_name=""', 'status="NOT_FOUND"') == 1
    assert "nobody_at_all" not in server.metrics()


@row("C7", tf_serving="examples of Classify and Regress are counted")
def test_examples_are_counted(server):
    changes = _Changes(server)
    asked = classification_pb2.ClassificationRequest()
    asked.model_spec.name = "half_plus_two"
    asked.model_spec.signature_name = "classify_x_to_y"
    for _ in range(3):
        asked.input.example_list.examples.add()
    server.prediction.Classify(asked, timeout=20)
    model = '"half_plus_two"'
    assert changes("request_example_count_total", model) == 3
    assert changes("request_example_counts_sum", model) == 3
    assert changes("request_example_counts_count", model) == 1


@row("C7", tf_serving="warm-up records and their latency are counted")
def test_warm_up_is_counted(server):
    page = server.metrics()
    assert _total(page, "model_warmup_records_read", "warmed") == 2
    assert _total(page, "model_warmup_latency_count", "warmed") == 1


@row(
    "C7",
    tf_serving="batching_session/queuing_latency, wrapped_run_count, padding_size, "
    "input_batch_size, processed_batch_size",
    here="these, beside `batching:` metrics with model and signature",
)
@pytest.mark.parametrize(
    "name",
    [
        "queuing_latency_count",
        "wrapped_run_count",
        "padding_size_count",
        "input_batch_size_count",
        "processed_batch_size_count",
    ],
)
def test_batching_has_tf_servings_names(batching, name):
    changes = _Changes(batching)
    _predict(batching)
    assert changes(f"batching_session:{name}") == 1


@row(
    "C7",
    tf_serving="batching_session/input_batch_size is the size of a request",
)
def test_input_batch_size_is_of_a_request(batching):
    changes = _Changes(batching)
    asked = request([[1.0], [2.0], [3.0]], name="half_plus_two")
    batching.prediction.Predict(asked, timeout=20)
    assert changes("batching_session:input_batch_size_sum") == 3
    labels = 'model_name="half_plus_two"', 'signature_name="serving_default"'
    assert changes("batching:input_batch_size_sum", *labels) == 3


@row(
    "C8",
    tf_serving="text/plain; with a query the path is another",
    here="text/plain; version=0.0.4, with any query",
)
def test_the_page_is_text(server):
    path = "/monitoring/prometheus/metrics?name=x"
    status, headers, text = server.ask_raw("GET", path)
    assert status == 200
    assert headers["Content-Type"].startswith("text/plain; version=0.0.4")
    assert text.startswith(b"# ")
