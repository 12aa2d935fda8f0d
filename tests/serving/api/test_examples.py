"""Classify, Regress and MultiInference over real sockets, gRPC and REST."""

import pytest
import tensorflow as tf
from served import (
    Code,
    example,
    fails,
    predicting,
    rest,
    running,
    save_any,
)
from tensorflow_serving.apis import (
    classification_pb2,
    inference_pb2,
    input_pb2,
    predict_pb2,
    regression_pb2,
)

CLASSIFY = "tensorflow/serving/classify"
REGRESS = "tensorflow/serving/regress"


def _signatures() -> dict:
    """Sums of x, (batch,), in every form that is right and some that are wrong."""

    def signature(outputs):
        @tf.function(input_signature=[tf.TensorSpec([None], tf.string, "inputs")])
        def call(inputs):
            spec = {"x": tf.io.FixedLenFeature([3], tf.float32)}
            return outputs(tf.reduce_sum(tf.io.parse_example(inputs, spec)["x"], 1))

        return call

    def pair(total):
        return tf.stack([total, -total], axis=1)

    def labels(total):
        return tf.where(pair(total) > 0, "up", "down")

    @tf.function(
        input_signature=[
            {
                "a": tf.TensorSpec([None], tf.string, "a"),
                "b": tf.TensorSpec([None], tf.string, "b"),
            }
        ]
    )
    def two(inputs):
        return {"outputs": tf.zeros(tf.shape(inputs["a"] + inputs["b"]))}

    made = {
        "classify": lambda total: {"classes": labels(total), "scores": pair(total)},
        "classify_labels": lambda total: {"classes": labels(total)},
        "classify_scores": lambda total: {"scores": pair(total)},
        "classify_flat": lambda total: {"scores": total},
        "classify_unequal": lambda total: {
            "classes": labels(total),
            "scores": total[:, None],
        },
        "classify_none": lambda total: {"y": total},
        "classify_numbers": lambda total: {"classes": tf.cast(pair(total), tf.int64)},
        "classify_wide": lambda total: {"scores": tf.cast(pair(total), tf.float64)},
        "regress": lambda total: {"outputs": total[:, None]},
        "regress_flat": lambda total: {"outputs": total},
        "regress_wide": lambda total: {"outputs": pair(total)},
        "regress_none": lambda total: {"y": total},
        "regress_labels": lambda total: {"outputs": labels(total)[:, 0]},
    }
    return {name: signature(outputs) for name, outputs in made.items()} | {
        "serving_default": signature(lambda total: {"y": total}),
        "as_saved": signature(lambda total: {"scores": pair(total), "outputs": total}),
        "regress_two": two,
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("examples")
    save_any(folder / "1", tf.Module(), _signatures())
    return folder


@pytest.fixture(scope="module")
def server(folder):
    with running(model_base_path=str(folder)) as server:
        yield server


@pytest.fixture
def stub(server):
    with predicting(server.grpc.ports[0]) as stub:
        yield stub


@pytest.fixture(scope="module")
def strict(folder):
    flags = {"enable_signature_method_name_check": True}
    with (
        running(model_base_path=str(folder), **flags) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        yield stub


def _input(*examples, context=None) -> input_pb2.Input:
    made = input_pb2.Input()
    if context is None:
        made.example_list.examples.extend(examples)
    else:
        made.example_list_with_context.examples.extend(examples)
        made.example_list_with_context.context.CopyFrom(context)
    return made


TWO = _input(example(1, 2, 3), example(0, 0, -1))


def _classify(signature: str, given=TWO, **spec):
    asked = classification_pb2.ClassificationRequest(input=given)
    asked.model_spec.name = spec.pop("name", "m")
    asked.model_spec.signature_name = signature
    return _specified(asked, spec)


def _regress(signature: str, given=TWO, **spec):
    asked = regression_pb2.RegressionRequest(input=given)
    asked.model_spec.name = spec.pop("name", "m")
    asked.model_spec.signature_name = signature
    return _specified(asked, spec)


def _specified(asked, spec):
    if "version" in spec:
        asked.model_spec.version.value = spec["version"]
    if "label" in spec:
        asked.model_spec.version_label = spec["label"]
    return asked


def _several(*tasks: tuple[str, str], given=TWO, names=("m", "m")):
    """A MultiInferenceRequest of (method, signature) pairs."""
    asked = inference_pb2.MultiInferenceRequest(input=given)
    for (method, signature), name in zip(tasks, names, strict=False):
        task = asked.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = name, signature
    return asked


@pytest.mark.parametrize(
    "signature, expected",
    [
        (
            "classify",
            [[("up", 6.0), ("down", -6.0)], [("down", -1.0), ("up", 1.0)]],
        ),
        ("classify_labels", [[("up", 0.0), ("down", 0.0)], [("down", 0), ("up", 0)]]),
        ("classify_scores", [[("", 6.0), ("", -6.0)], [("", -1.0), ("", 1.0)]]),
    ],
)
def test_classes_have_labels_scores_or_both(server, stub, signature, expected):
    response = stub.Classify(_classify(signature))
    assert [
        [(c.label, c.score) for c in row.classes]
        for row in response.result.classifications
    ] == expected
    assert response.model_spec.name == "m"
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == signature
    body = {
        "signature_name": signature,
        "examples": [{"x": [1.0, 2.0, 3.0]}, {"x": [0.0, 0.0, -1.0]}],
    }
    assert rest(server, "POST", "/v1/models/m:classify", body) == (
        200,
        {"results": [[list(pair) for pair in row] for row in expected]},
    )


@pytest.mark.parametrize("signature", ["regress", "regress_flat"])
def test_values_come_flat_or_as_a_column(server, stub, signature):
    response = stub.Regress(_regress(signature, version=1))
    assert [r.value for r in response.result.regressions] == [6.0, -1.0]
    assert response.model_spec.version.value == 1
    assert response.model_spec.signature_name == signature
    body = {
        "signature_name": signature,
        "examples": [{"x": [1.0, 2.0, 3.0]}, {"x": [0.0, 0.0, -1.0]}],
    }
    for version in ("", "/versions/1"):
        path = f"/v1/models/m{version}:regress"
        assert rest(server, "POST", path, body) == (200, {"results": [6.0, -1.0]})


def test_a_context_is_put_before_each_example(server, stub):
    given = _input(example(), example(0, 0, 1), context=example(1, 1, 1))
    response = stub.Regress(_regress("regress", given))
    # What comes last counts: the example's own x over the context's.
    assert [r.value for r in response.result.regressions] == [3.0, 1.0]
    body = {
        "signature_name": "regress",
        "context": {"x": [1.0, 1.0, 1.0]},
        "examples": [{}, {"x": [0.0, 0.0, 1.0]}],
    }
    answered = rest(server, "POST", "/v1/models/m:regress", body)
    assert answered == (200, {"results": [3.0, 1.0]})
    body["signature_name"] = "classify_scores"
    answered = rest(server, "POST", "/v1/models/m:classify", body)
    assert answered == (
        200,
        {"results": [[["", 3.0], ["", -3.0]], [["", 1.0], ["", -1]]]},
    )


def test_values_that_are_no_numbers_are_bare_words(server):
    body = '{"signature_name": "regress", "examples": [{"x": [1.0, 1.0, -Infinity]}]}'
    _, answered = rest(server, "POST", "/v1/models/m:regress", body)
    assert answered == {"results": [float("-inf")]}


def test_bytes_that_are_no_example_are_quoted_as_far_as_they_are_text(stub):
    asked = predict_pb2.PredictRequest()
    asked.model_spec.name = "m"
    asked.inputs["inputs"].CopyFrom(tf.make_tensor_proto([b"abc\xff\xfe"]))
    code, message = fails(stub.Predict, asked)
    assert code is Code.INVALID_ARGUMENT
    assert "Could not parse example input, value: 'abc\ufffd\ufffd'" in message


def test_several_signatures_on_the_same_examples(stub):
    asked = _several((CLASSIFY, "classify"), (REGRESS, "regress"))
    classified, regressed = stub.MultiInference(asked).results
    (row, _) = classified.classification_result.classifications
    assert [(c.label, c.score) for c in row.classes] == [
        ("up", 6.0),
        ("down", -6.0),
    ]
    values = [r.value for r in regressed.regression_result.regressions]
    assert values == [6.0, -1.0]
    assert classified.model_spec.signature_name == "classify"
    assert regressed.model_spec.signature_name == "regress"
    assert regressed.model_spec.version.value == 1


BOTH_REFUSE = {
    "no examples": ({"given": _input()}, "INVALID_ARGUMENT", "Input is empty."),
    "a context alone": (
        {"given": _input(context=example(1, 1, 1))},
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    "no name": (
        {"name": ""},
        "INVALID_ARGUMENT",
        "ModelSpec has no name specified.",
    ),
    "unknown model": (
        {"name": "foo"},
        "NOT_FOUND",
        "Servable not found for request: Latest(foo)",
    ),
    "unknown version": (
        {"version": 9},
        "NOT_FOUND",
        "Servable not found for request: Specific(m, 9)",
    ),
    "unknown label": (
        {"label": "X"},
        "INVALID_ARGUMENT",
        "Unrecognized servable version label: X",
    ),
    "unknown signature": (
        {"signature": "X"},
        "INVALID_ARGUMENT",
        "No signature was found with the name: X",
    ),
}


@pytest.mark.parametrize("case", BOTH_REFUSE)
def test_what_classify_and_regress_refuse(stub, case):
    change, code, message = BOTH_REFUSE[case]
    for call, make, signature in (
        (stub.Classify, _classify, "classify"),
        (stub.Regress, _regress, "regress"),
    ):
        asked = make(**{"signature": signature} | change)
        assert fails(call, asked) == (Code[code], message)


@pytest.mark.parametrize(
    "method, signature, code, message",
    [
        (
            "classify",
            "classify_flat",
            Code.INVALID_ARGUMENT,
            "Tensor output scores must be [batch size, classes]; has shape [2] for 2 "
            "examples",
        ),
        (
            "classify",
            "classify_unequal",
            Code.INVALID_ARGUMENT,
            "Tensor class and score shapes do not match: [2, 2] vs. [2, 1]",
        ),
        (
            "classify",
            "classify_none",
            Code.INVALID_ARGUMENT,
            "Expected classification signature outputs to contain at least one of "
            '"classes" or "scores". Signature was: classify_none',
        ),
        (
            "regress",
            "regress_wide",
            Code.INVALID_ARGUMENT,
            "Expected output Tensor shape to be either [batch_size] or [batch_size, 1] "
            "for 2 examples; got [2, 2]",
        ),
        (
            "classify",
            "classify_numbers",
            Code.INVALID_ARGUMENT,
            "Expected classes Tensor of DT_STRING. Got: DT_INT64",
        ),
        (
            "classify",
            "classify_wide",
            Code.INVALID_ARGUMENT,
            "Expected scores Tensor of DT_FLOAT. Got: DT_DOUBLE",
        ),
        (
            "regress",
            "regress_labels",
            Code.INVALID_ARGUMENT,
            "Expected output Tensor of DT_FLOAT. Got: DT_STRING",
        ),
        (
            "regress",
            "regress_none",
            Code.INVALID_ARGUMENT,
            'Expected regression signature outputs to contain "outputs". '
            "Signature was: regress_none",
        ),
        (
            "regress",
            "regress_two",
            Code.INVALID_ARGUMENT,
            "Expected one input Tensor. Signature regress_two has 2.",
        ),
    ],
)
def test_signatures_that_are_refused(server, stub, method, signature, code, message):
    call, make = {
        "classify": (stub.Classify, _classify),
        "regress": (stub.Regress, _regress),
    }[method]
    assert fails(call, make(signature)) == (code, message)
    body = {
        "signature_name": signature,
        "examples": [{"x": [1.0, 2.0, 3.0]}, {"x": [0.0, 0.0, -1.0]}],
    }
    answered = rest(server, "POST", f"/v1/models/m:{method}", body)
    assert answered == (400, {"error": message})


def test_the_method_that_a_signature_was_saved_with_does_not_count(server, stub):
    (row, _) = stub.Classify(_classify("as_saved")).result.classifications
    assert [c.score for c in row.classes] == [6.0, -6.0]
    regressed = stub.Regress(_regress("as_saved")).result.regressions
    assert [r.value for r in regressed] == [6.0, -1.0]
    asked = _several((CLASSIFY, "as_saved"), (REGRESS, "regress"))
    assert len(stub.MultiInference(asked).results) == 2
    body = {"signature_name": "as_saved", "examples": [{"x": [1.0, 2.0, 3.0]}]}
    for method, results in (("classify", [[["", 6.0], ["", -6.0]]]), ("regress", [6])):
        answered = rest(server, "POST", f"/v1/models/m:{method}", body)
        assert answered == (200, {"results": results})
    page = server.monitoring.page()
    for api in ("Classify", "Regress"):
        labels = f'model_name="m",API="{api}",runtime="TF1"'
        assert f"runtime_latency_count{{{labels}}}" in page


@pytest.mark.parametrize(
    "method, signature, kind, was",
    [
        (CLASSIFY, "regress", "classification", REGRESS),
        (CLASSIFY, "", "classification", "tensorflow/serving/predict"),
        (CLASSIFY, "as_saved", "classification", "tensorflow/serving/predict"),
        (REGRESS, "classify", "regression", CLASSIFY),
        (REGRESS, "as_saved", "regression", "tensorflow/serving/predict"),
    ],
)
def test_the_method_counts_with_the_flag(strict, method, signature, kind, was):
    refused = (
        Code.INVALID_ARGUMENT,
        f"Expected {kind} signature method_name to be {method}. Was: {was}",
    )
    call, make = (
        (strict.Classify, _classify)
        if method == CLASSIFY
        else (strict.Regress, _regress)
    )
    assert fails(call, make(signature)) == refused
    assert fails(strict.MultiInference, _several((method, signature))) == refused


@pytest.mark.parametrize(
    "asked, code, message",
    [
        (
            _several((REGRESS, "regress"), (REGRESS, "regress_flat"), names="mn"),
            Code.INVALID_ARGUMENT,
            "All ModelSpecs in a MultiInferenceRequest must access the same model "
            "name.",
        ),
        (
            _several((REGRESS, "regress"), (REGRESS, "regress")),
            Code.INVALID_ARGUMENT,
            "Duplicate evaluation of signature: regress",
        ),
        (
            _several((REGRESS, "regress"), ("X", "classify")),
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: X",
        ),
        (
            _several(("tensorflow/serving/predict", "serving_default")),
            Code.UNIMPLEMENTED,
            "Unsupported signature method_name: tensorflow/serving/predict",
        ),
        (
            _several((REGRESS, "regress"), (REGRESS, "classify")),
            Code.INVALID_ARGUMENT,
            'Expected regression signature outputs to contain "outputs". '
            "Signature was: classify",
        ),
        (
            _several((REGRESS, "X")),
            Code.INVALID_ARGUMENT,
            "No signature was found with the name: X",
        ),
        (
            _several((REGRESS, "regress"), given=_input()),
            Code.INVALID_ARGUMENT,
            "Input is empty.",
        ),
        (
            _several((REGRESS, "regress"), names=["foo"]),
            Code.NOT_FOUND,
            "Servable not found for request: Latest(foo)",
        ),
        (
            inference_pb2.MultiInferenceRequest(input=TWO),
            Code.INVALID_ARGUMENT,
            "MultiInferenceRequest has no tasks.",
        ),
    ],
    ids=range(9),
)
def test_what_multi_inference_refuses(stub, asked, code, message):
    assert fails(stub.MultiInference, asked) == (code, message)


@pytest.mark.parametrize(
    "body, message",
    [
        ({}, "When method is classify or regress, key 'examples' must be a list"),
        ({"examples": []}, "Input is empty."),
        ({"examples": [1]}, "Example must be an object of feature names and values"),
        (
            {"examples": [{"x": [None]}]},
            "feature x: expected numbers or strings, received a list",
        ),
        ({"examples": [{"x": 2**63}]}, "feature x: a value does not fit DT_INT64"),
        (
            {"examples": [{}], "signature_name": 1},
            "'signature_name' key must be a string value.",
        ),
        (
            {"examples": [{}], "signature_name": "X"},
            "No signature was found with the name: X",
        ),
    ],
)
def test_what_rest_refuses_of_examples(server, body, message):
    for method in ("classify", "regress"):
        sent = {"signature_name": method} | body
        answered = rest(server, "POST", f"/v1/models/m:{method}", sent)
        assert answered == (400, {"error": message})
