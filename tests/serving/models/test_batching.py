"""Batching over a real socket: what is put together, split, padded and refused."""

import concurrent.futures
import shutil

import numpy as np
import pytest
import tensorflow as tf
from served import (
    Code,
    answer,
    fails,
    metric,
    predicting,
    request,
    rest,
    running,
    save_any,
)

from serving.errors import ServingError
from serving.fronts.text_configs import BatchingParameters
from serving.models.batching_settings import Batching, from_parameters

PREDICT = "/v1/models/m:predict"
PAGE = "/monitoring/prometheus/metrics"


class _Rows(tf.Module):
    """Says with each row how many rows ran together; and what needs a long time."""

    @tf.function(
        input_signature=[
            {
                "x": tf.TensorSpec([None, None], tf.float32, "x"),
                "z": tf.TensorSpec([None], tf.float32, "z"),
            }
        ]
    )
    def predict(self, inputs):
        rows = tf.shape(inputs["z"])[:1]
        total = tf.reduce_sum(inputs["x"], axis=1) + inputs["z"]
        width = tf.shape(inputs["x"])[1]
        return {
            "y": total,
            "together": tf.broadcast_to(rows, rows),
            "width": tf.broadcast_to(width, rows),
        }

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "z")])
    def slow(self, z):
        def step(i, square):
            return i + 1, tf.matmul(square, square) / 1000.0

        start = tf.ones([300, 300]) * tf.reduce_mean(z)
        _, last = tf.while_loop(lambda i, _: i < 300, step, [0, start])
        return {"y": z + 0.0 * last[0, 0]}

    @tf.function(input_signature=[tf.TensorSpec([None], tf.float32, "z")])
    def meet(self, z):
        """Says how many runs of it are under way; waits for a second one."""
        queue = tf.raw_ops.FIFOQueueV2(component_types=[tf.float32], shared_name="here")
        came = tf.raw_ops.QueueEnqueueV2(handle=queue, components=[z[0]])
        with tf.control_dependencies([came]):
            end = tf.timestamp() + 20.0
        here = tf.while_loop(
            lambda here: (here < 2) & (tf.timestamp() < end),
            lambda _: tf.raw_ops.QueueSizeV2(handle=queue),
            [tf.constant(0)],
        )
        return {"y": tf.broadcast_to(tf.cast(here, tf.float32), tf.shape(z))}

    @tf.function(
        input_signature=[
            tf.TensorSpec([None], tf.float32, "z"),
            tf.TensorSpec([1], tf.float32, "more"),
        ]
    )
    def shifted(self, z, more):
        return {"y": z + more}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("batching")
    (folder / "m").mkdir()
    model = _Rows()
    signatures = {
        "serving_default": model.predict,
        "slow": model.slow,
        "meet": model.meet,
        "shifted": model.shifted,
    }
    save_any(folder / "m" / "1", model, signatures)
    (folder / "monitoring.txt").write_text("prometheus_config { enable: true }")
    return folder


def _serve(folder, text: str):
    (folder / "batching.txt").write_text(text)
    return running(
        model_base_path=str(folder / "m"),
        enable_batching=True,
        batching_parameters_file=str(folder / "batching.txt"),
        monitoring_config_file=str(folder / "monitoring.txt"),
    )


def _ask(x, z=None):
    asked = request(x)
    z = [0.0] * len(x) if z is None else z
    asked.inputs["z"].CopyFrom(tf.make_tensor_proto(np.array(z, np.float32)))
    return asked


def _json(x, z) -> dict:
    return {"inputs": {"x": x, "z": z}}


def _slow(rows: int, signature: str = "slow"):
    asked = request(None, signature_name=signature)
    asked.inputs["z"].CopyFrom(tf.make_tensor_proto(np.ones([rows], np.float32)))
    return asked


def test_requests_run_together_padded_to_an_allowed_size(folder):
    # The batch is full with 6: nothing starts before, for a minute.
    text = """max_batch_size { value: 8 } batch_timeout_micros { value: 60000000 }
        allowed_batch_sizes: 4 allowed_batch_sizes: 8"""
    with _serve(folder, text) as server, predicting(server.grpc.ports[0]) as stub:
        sizes = (1, 2, 3, 2)
        calls = [stub.Predict.future(_ask([[i, 1.0]] * i)) for i in sizes]
        answers = [call.result(timeout=60).outputs for call in calls]
        _, page = rest(server, "GET", PAGE)
    for size, outputs in zip(sizes, answers, strict=True):
        assert list(outputs["y"].float_val) == [size + 1.0] * size
        assert list(outputs["together"].int_val) == [8] * size
    labels = {"model_name": "m", "signature_name": "serving_default"}
    assert metric(page, "batching:input_batch_size_sum", **labels) == 8
    assert metric(page, "batching:input_batch_size_count", **labels) == 1
    assert metric(page, "batching:queuing_latency_count", **labels) == 4
    assert metric(page, "batching:batch_delay_us_count", **labels) == 1
    assert metric(page, "batching:requests_in_flight", **labels) == 0


def test_a_batch_counts_its_examples_without_the_padding(folder):
    text = "max_batch_size { value: 8 } allowed_batch_sizes: 4 allowed_batch_sizes: 8"
    with _serve(folder, text) as server, predicting(server.grpc.ports[0]) as stub:
        together = stub.Predict(_ask([[1.0]] * 3)).outputs["together"]
        _, page = rest(server, "GET", PAGE)
    assert list(together.int_val) == [4, 4, 4]
    labels = {"model_name": "m", "signature_name": "serving_default"}
    assert metric(page, "batching:input_batch_size_sum", **labels) == 3
    assert metric(page, "batching:processed_batch_size_sum", **labels) == 4
    runtime = {"model_name": "m", "API": "Predict", "runtime": "TF1"}
    assert metric(page, "runtime_latency_count", **runtime) == 1
    assert 0 < metric(page, "runtime_latency_sum", **runtime) < 60e6


def test_too_large_requests_are_refused_or_split(folder):
    rows = [[float(i)] for i in range(11)]
    with (
        _serve(folder, "max_batch_size { value: 4 }") as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        code, message = fails(stub.Predict, _ask(rows))
        status, refused = rest(server, "POST", PREDICT, _json(rows, [0.0] * 11))
    assert code is Code.INVALID_ARGUMENT
    assert "Task size 11 is larger than maximum input batch size 4" in message
    assert (status, refused["error"]) == (400, message)
    text = """max_batch_size { value: 11 } enable_large_batch_splitting { value: true }
        max_execution_batch_size { value: 4 }"""
    with _serve(folder, text) as server, predicting(server.grpc.ports[0]) as stub:
        response = stub.Predict(_ask(rows))
        code, message = fails(stub.Predict, _ask([*rows, [0.0]]))
        assert code is Code.INVALID_ARGUMENT
        assert "Task size 12 is larger than maximum input batch size 11" in message
        _, page = rest(server, "GET", PAGE)
    assert answer(response) == [float(i) for i in range(11)]
    assert max(response.outputs["together"].int_val) <= 4
    labels = {"model_name": "m", "signature_name": "serving_default"}
    assert metric(page, "batching:input_batch_size_sum", **labels) == 11
    # Nobody asked for padding.
    assert metric(page, "batching:processed_batch_size_sum", **labels) == 11


def test_unequal_first_dimensions_are_refused(folder):
    with (
        _serve(folder, "max_batch_size { value: 4 }") as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        code, message = fails(stub.Predict, _ask([[1.0], [2.0]], [0.0]))
        refused = rest(server, "POST", PREDICT, _json([[1.0], [2.0]], [0.0]))
    assert code is Code.INVALID_ARGUMENT
    assert message == (
        "Batching input tensors supplied in a given op invocation must have equal "
        "0th-dimension size. Received: {'x': 2, 'z': 1}"
    )
    assert refused == (400, {"error": message})


def test_a_full_queue_is_unavailable(folder):
    text = """max_batch_size { value: 1 } max_enqueued_batches { value: 1 }
        num_batch_threads { value: 1 }"""
    with _serve(folder, text) as server, predicting(server.grpc.ports[0]) as stub:
        stub.Predict(_slow(1))
        calls = [stub.Predict.future(_slow(1)) for _ in range(16)]
        codes = [call.code() for call in calls]
        body = {"signature_name": "slow", "inputs": [1.0]}
        with concurrent.futures.ThreadPoolExecutor(16) as pool:
            answers = list(
                pool.map(lambda _: rest(server, "POST", PREDICT, body), range(16))
            )
    assert set(codes) == {Code.OK, Code.UNAVAILABLE}
    assert codes.count(Code.OK) >= 2
    assert {status for status, _ in answers} == {200, 503}
    assert all("error" in answered for status, answered in answers if status == 503)


def test_as_many_batches_run_at_once_as_there_are_threads(folder):
    text = "max_batch_size { value: 1 } num_batch_threads { value: 2 }"
    with _serve(folder, text) as server, predicting(server.grpc.ports[0]) as stub:
        calls = [stub.Predict.future(_slow(1, "meet")) for _ in range(2)]
        answers = [answer(call.result(timeout=60)) for call in calls]
    # With one thread the first would be alone.
    assert answers == [[2.0], [2.0]]


def test_inputs_that_are_no_rows_are_run_past_the_batching(folder):
    asked = _slow(3, "shifted")
    asked.inputs["more"].CopyFrom(tf.make_tensor_proto([10.0]))
    text = "max_batch_size { value: 2 }"
    with _serve(folder, text) as server, predicting(server.grpc.ports[0]) as stub:
        assert answer(stub.Predict(asked)) == [11.0, 11.0, 11.0]


def test_rows_of_different_lengths_wait_apart_or_are_padded(folder):
    text = "max_batch_size { value: 4 } batch_timeout_micros { value: 2000 }"
    for more, widths in (("", {2, 3}), (" pad_variable_length_inputs: true", {2, 4})):
        with (
            _serve(folder, text + more) as server,
            predicting(server.grpc.ports[0]) as stub,
        ):
            calls = [
                stub.Predict.future(_ask([[1.0] * width])) for width in (2, 3, 2, 3)
            ]
            answers = [call.result(timeout=60).outputs for call in calls]
        assert {outputs["width"].int_val[0] for outputs in answers} == widths
        # What fills up is the row's first value, as in TF Serving.
        expected = [2.0, 4.0 if more else 3.0]
        assert [outputs["y"].float_val[0] for outputs in answers] == expected * 2


def test_many_shapes_are_answered_though_not_all_have_a_queue(folder):
    with (
        _serve(folder, "max_batch_size { value: 4 }") as server,
        predicting(server.grpc.ports[0]) as stub,
        concurrent.futures.ThreadPoolExecutor(8) as pool,
    ):
        answers = pool.map(lambda n: stub.Predict(_ask([[1.0] * n])), range(1, 41))
        assert [answer(response)[0] for response in answers] == [
            float(n) for n in range(1, 41)
        ]


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("max_batch_size", 0, "max_batch_size must be positive; was 0"),
        ("num_batch_threads", -1, "num_batch_threads must be positive; was -1"),
        ("batch_timeout_micros", -1, "batch_timeout_micros must be non-negative"),
        ("allowed_batch_sizes", (2, 4), "must match max_batch_size; last entry was 4"),
        ("allowed_batch_sizes", (8, 4, 1000), "must be positive and ascending"),
        ("max_execution_batch_size", 1001, "at most max_batch_size, 1000; was 1001"),
    ],
)
def test_what_the_parameters_must_be(field, value, message):
    with pytest.raises(ServingError, match=message):
        Batching(**{field: value})


def test_every_key_of_the_parameters_file_arrives():
    parameters = BatchingParameters(
        allowed_batch_sizes=[3, 9], pad_variable_length_inputs=True
    )
    parameters.max_batch_size.value = 9
    parameters.batch_timeout_micros.value = 5
    parameters.max_enqueued_batches.value = 6
    parameters.num_batch_threads.value = 7
    parameters.enable_large_batch_splitting.value = True
    parameters.max_execution_batch_size.value = 3
    parameters.thread_pool_name.value = "mine"
    assert from_parameters(parameters) == Batching(
        max_batch_size=9,
        batch_timeout_micros=5,
        max_enqueued_batches=6,
        num_batch_threads=7,
        allowed_batch_sizes=(3, 9),
        pad_variable_length_inputs=True,
        enable_large_batch_splitting=True,
        max_execution_batch_size=3,
        thread_pool_name="mine",
    )


def test_nothing_is_split_unless_a_run_is_smaller_than_the_largest_request():
    split = {"max_batch_size": 9, "enable_large_batch_splitting": True}
    assert Batching(**split).execution_size == 9
    assert Batching(**split, max_execution_batch_size=4).execution_size == 4
    whole = {"max_batch_size": 9, "max_execution_batch_size": 4}
    assert Batching(**whole).execution_size == 9


def test_each_version_may_have_settings_of_its_own(folder, tmp_path):
    base = tmp_path / "m"
    for number, sizes in ((1, 4), (2, 6), (3, None)):
        shutil.copytree(folder / "m" / "1", base / str(number))
        if sizes:
            file = base / str(number) / "batching_params.pbtxt"
            file.write_text(
                f"max_batch_size {{ value: {sizes} }} allowed_batch_sizes: {sizes}"
            )
    config = tmp_path / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" '
        "model_version_policy { all {} } } }"
    )
    with (
        running(
            model_config_file=str(config),
            enable_batching=True,
            enable_per_model_batching_parameters=True,
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        together = []
        for version in (1, 2, 3):
            asked = _ask([[1.0], [2.0], [3.0]])
            asked.model_spec.version.value = version
            together += stub.Predict(asked).outputs["together"].int_val[:1]
    assert together == [4, 6, 3]


class _Any(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec(None, tf.float32, "z")])
    def predict(self, z):
        return {"y": 2.0 * z}


def test_a_value_without_rows_is_refused(tmp_path):
    (tmp_path / "m").mkdir()
    model = _Any()
    save_any(tmp_path / "m" / "1", model, {"serving_default": model.predict})
    with (
        running(model_base_path=str(tmp_path / "m"), enable_batching=True) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        asked = request(None)
        asked.inputs["z"].CopyFrom(tf.make_tensor_proto([1.5]))
        assert answer(stub.Predict(asked)) == [3.0]
        asked.inputs["z"].CopyFrom(tf.make_tensor_proto(1.5))
        assert fails(stub.Predict, asked) == (
            Code.INVALID_ARGUMENT,
            "Batching input tensors must have at least one dimension. Received: input "
            "z of shape []",
        )


def test_requests_that_wait_for_a_thread_take_memory(folder):
    with (
        running(
            model_base_path=str(folder / "m"),
            grpc_max_threads=1,
            max_memory_bytes=10_000_000,
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        calls = [stub.Predict.future(_slow(250_000)) for _ in range(20)]
        codes = [call.code() for call in calls]
        assert set(codes) == {Code.OK, Code.RESOURCE_EXHAUSTED}
        # All was given back.
        assert stub.Predict(_slow(1_000_000)).outputs["y"].float_val[0] == 1.0
