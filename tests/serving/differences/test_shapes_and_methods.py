"""What a request's tensors may be, and which calls a signature answers."""

import concurrent.futures
import re

import numpy as np
import pytest
import tensorflow as tf
from differences import row
from served import Code, fails, request
from served_outside import serving
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    regression_pb2,
)

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"
EXAMPLES = {"x": 2.0}, {"x": 5.0}


def _example(**features: float) -> tf.train.Example:
    example = tf.train.Example()
    for name, value in features.items():
        example.features.feature[name].float_list.value.append(value)
    return example


def _of_examples(kind, model: str, signature: str):
    asked = kind()
    asked.model_spec.name, asked.model_spec.signature_name = model, signature
    asked.input.example_list.examples.extend(_example(**one) for one in EXAMPLES)
    return asked


def _classify(model, signature="classify_x_to_y"):
    return _of_examples(classification_pb2.ClassificationRequest, model, signature)


def _regress(model, signature="regress_x_to_y"):
    return _of_examples(regression_pb2.RegressionRequest, model, signature)


def _multi(model: str) -> inference_pb2.MultiInferenceRequest:
    asked = inference_pb2.MultiInferenceRequest()
    for method, signature in (
        (REGRESS, "regress_x_to_y"),
        (CLASSIFY, "classify_x_to_y"),
    ):
        task = asked.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature
    asked.input.example_list.examples.extend(_example(**one) for one in EXAMPLES)
    return asked


@pytest.fixture(params=["alone", "batching"])
def serves(request):
    """Servers that run each request by itself, and that put them together."""
    names = {"alone": "server", "batching": "batching"}
    return request.getfixturevalue(names[request.param])


@row("shapes", tf_serving="a signature's shapes are not checked: [3] for [?,1] is run")
@pytest.mark.parametrize(
    "body, expected",
    [
        ({"instances": [1.0, 2.0, 5.0]}, {"predictions": [2.5, 3.0, 4.5]}),
        ({"instances": [[1.0, 2.0]]}, {"predictions": [[2.5, 3.0]]}),
        ({"inputs": [1.0, 5.0]}, {"outputs": [2.5, 4.5]}),
        ({"inputs": [[[1.0]], [[5.0]]]}, {"outputs": [[[2.5]], [[4.5]]]}),
    ],
    ids=["quick start", "row too long", "columns", "rank too high"],
)
def test_a_shape_that_the_graph_can_compute_is_answered(serves, body, expected):
    assert serves.post("half_plus_two", body) == (200, expected)


@row("shapes", tf_serving='`{"inputs": 1.0}` to an input declared [?,1] is run')
def test_a_number_is_answered(server):
    body = {"inputs": 1.0}
    assert server.post("half_plus_two", body) == (200, {"outputs": 2.5})


@row("shapes", tf_serving="[3] for [?,1] over gRPC is answered with [3]")
@pytest.mark.parametrize("x", [[1.0, 2.0, 5.0], [[1.0, 2.0], [5.0, 6.0]]])
def test_a_shape_that_the_graph_can_compute_is_answered_over_grpc(serves, x):
    response = serves.prediction.Predict(request(x, name="half_plus_two"), timeout=20)
    y = tf.make_ndarray(response.outputs["y"])
    np.testing.assert_array_equal(y, np.array(x) / 2 + 2)


@row(
    "shapes",
    tf_serving="what the graph refuses is INVALID_ARGUMENT with the words of the op",
    here="the same code; the message names the input, its shape and the signature's",
)
@pytest.mark.parametrize(
    "x, received", [([[1, 2]], r"1, ?2"), ([1, 2, 3], r"3,?"), (1, r"")]
)
def test_what_the_graph_refuses_names_input_and_shapes(server, x, received):
    code, message = fails(server.prediction.Predict, request(x, name="odd"))
    assert code is Code.INVALID_ARGUMENT
    assert re.search(r"\bx\b", message)
    assert re.search(r"[\[(](\?|None), ?3[\])]", message)
    assert re.search(rf"[\[(]{received}[\])]", message)
    status, answered = server.post("odd", {"inputs": x})
    assert (status, answered["error"]) == (400, message)


@row("shapes", tf_serving="a shape that the graph refuses fails its own request")
def test_a_shape_that_the_graph_refuses_fails_no_other_request(batching):
    def predict(x):
        return batching.post("odd", {"instances": x})[0]

    wrong, right = [[1.0, 2.0]], [[1.0, 2.0, 3.0]]
    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        codes = list(pool.map(predict, [wrong, right] * 16))
    assert codes == [400, 200] * 16


@row("shapes", tf_serving="the dtype is checked, whatever the shape")
def test_dtypes_are_checked(server):
    asked = request(None, name="half_plus_two")
    asked.inputs["x"].CopyFrom(tf.make_tensor_proto(np.ones([3], np.int32)))
    code, message = fails(server.prediction.Predict, asked)
    assert code is Code.INVALID_ARGUMENT
    assert {"x", "DT_FLOAT", "DT_INT32"} <= set(re.findall(r"\w+", message))


@row("methods", tf_serving="classify and regress answer from signatures of any method")
@pytest.mark.parametrize("model", ["half_plus_two", "tf2"])
def test_a_signature_of_any_method_answers(server, model):
    found = server.prediction.Classify(_classify(model), timeout=20).result
    scores = [one.classes[0].score for one in found.classifications]
    found = server.prediction.Regress(_regress(model), timeout=20).result
    values = [one.value for one in found.regressions]
    assert scores == values == [3.0, 4.5]


@row("methods", tf_serving=":classify and :regress over REST do the same")
@pytest.mark.parametrize("model", ["half_plus_two", "tf2"])
def test_a_signature_of_any_method_answers_over_rest(server, model):
    body = {"signature_name": "classify_x_to_y", "examples": EXAMPLES}
    expected = {"results": [[["", 3.0]], [["", 4.5]]]}
    assert server.post(model, body, "classify") == (200, expected)
    body = {"signature_name": "regress_x_to_y", "examples": EXAMPLES}
    assert server.post(model, body, "regress") == (200, {"results": [3.0, 4.5]})


@row("methods", tf_serving="so does MultiInference")
@pytest.mark.parametrize("model", ["half_plus_two", "tf2"])
def test_a_signature_of_any_method_answers_multi_inference(server, model):
    response = server.prediction.MultiInference(_multi(model), timeout=20)
    regressed, classified = response.results
    values = [one.value for one in regressed.regression_result.regressions]
    scores = [
        one.classes[0].score for one in classified.classification_result.classifications
    ]
    assert values == scores == [3.0, 4.5]


@pytest.fixture(scope="module")
def checking(exports, tmp_path_factory):
    base = exports.copy("two_tf2", tmp_path_factory.mktemp("checking") / "1")
    exports.copy("two", base / "2")
    config = base / "models.config"
    config.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" '
        "model_version_policy { all {} } } }"
    )
    with serving(
        model_config_file=config, enable_signature_method_name_check=True
    ) as server:
        yield server


@row(
    "methods",
    tf_serving="`--enable_signature_method_name_check` refuses signatures of another "
    "method",
)
def test_the_method_is_checked_with_the_flag(checking):
    asked = _classify("m"), _regress("m"), _multi("m")
    stub = checking.prediction
    calls = stub.Classify, stub.Regress, stub.MultiInference
    for call, one in zip(calls, asked, strict=True):
        specs = [one.model_spec] if hasattr(one, "model_spec") else []
        for spec in specs or [task.model_spec for task in one.tasks]:
            spec.version.value = 2
        call(one, timeout=20)
        for spec in specs or [task.model_spec for task in one.tasks]:
            spec.version.value = 1
        code, message = fails(call, one)
        assert code is Code.INVALID_ARGUMENT
        assert "signature method_name to be tensorflow/serving/" in message
        assert "tensorflow/serving/predict" in message


@row(
    "B5",
    tf_serving="a signature without classes and scores, or without outputs, or of two "
    "inputs is INVALID_ARGUMENT",
)
@pytest.mark.parametrize(
    "call, signature",
    [
        ("Classify", "classify_no_values"),
        ("Regress", "regress_no_values"),
        ("Regress", "regress_two_inputs"),
    ],
)
def test_signatures_that_do_not_fit_the_call_are_invalid(server, call, signature):
    ask = _classify if call == "Classify" else _regress
    code, _ = fails(getattr(server.prediction, call), ask("odd", signature))
    assert code is Code.INVALID_ARGUMENT


@row(
    "B5",
    tf_serving="the input must be named inputs, and regress have one output alone",
    here="an input of any name, and more outputs, are taken",
)
def test_other_names_of_inputs_and_more_outputs_are_taken(server):
    asked = _regress("odd", "regress_other_names")
    found = server.prediction.Regress(asked, timeout=20).result.regressions
    assert [one.value for one in found] == [2.0, 5.0]


@row("B32", tf_serving="MultiInference without tasks is INVALID_ARGUMENT")
def test_no_tasks(server):
    asked = inference_pb2.MultiInferenceRequest()
    code, _ = fails(server.prediction.MultiInference, asked)
    assert code is Code.INVALID_ARGUMENT


@row("B32", tf_serving="an unknown signature in any call is INVALID_ARGUMENT")
@pytest.mark.parametrize("call", ["Classify", "Regress", "MultiInference"])
def test_unknown_signatures(server, call):
    if call == "MultiInference":
        asked = _multi("tf2")
        asked.tasks[0].model_spec.signature_name = "nothing"
    else:
        ask = _classify if call == "Classify" else _regress
        asked = ask("tf2", "nothing")
    code, message = fails(getattr(server.prediction, call), asked)
    assert code is Code.INVALID_ARGUMENT
    assert "nothing" in message
