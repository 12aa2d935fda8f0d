"""Bodies in JSON: what is read of them, what is written."""

import base64
import json
import math

import pytest
from differences import row


def _predict(server, signature: str, form: str, values):
    return server.post("odd", {"signature_name": signature, form: values})


def _raw(server, signature: str, values: bytes, form: bytes = b"instances"):
    body = b'{"signature_name": "%s", "%s": %s}' % (signature.encode(), form, values)
    return server.post("odd", body)


def _decoded(found) -> list[bytes]:
    status, answered = found
    assert status == 200, answered
    return [base64.b64decode(one["b64"]) for one in answered["predictions"]]


@row("A10", tf_serving="white space within base64 is skipped, padding is optional")
@pytest.mark.parametrize(
    "text, expected",
    [
        ("YWI", b"ab"),
        ("YWI=", b"ab"),
        ("YQ", b"a"),
        (" YW\tI=\n", b"ab"),
        (base64.encodebytes(bytes(range(200))).decode(), bytes(range(200))),
        ("YWJj\r\nZGVm\r\n", b"abcdef"),
        ("", b""),
    ],
    ids=["unpadded", "padded", "unpadded 2", "spaces", "lines", "CRLF", "empty"],
)
def test_base64_of_all_encoders_is_read(server, text, expected):
    found = _predict(server, "text", "instances", [{"b64": text}])
    assert _decoded(found) == [expected]


@row("A10", tf_serving="other characters within base64 are an error")
@pytest.mark.parametrize("text", ["Y$WI", "YWI=YWI=", "YWI==", "Y", "Ä"])
def test_what_is_no_base64_is_refused(server, text):
    status, answered = _predict(server, "text", "instances", [{"b64": text}])
    assert status == 400
    assert "base64" in answered["error"]


@row("A11", tf_serving='keys of "inputs" that the signature lacks are ignored')
@pytest.mark.parametrize("more", [1, "text", [[1], [2, 3]], {"deep": [None]}, None])
def test_inputs_of_other_signatures_are_ignored(server, more):
    inputs = {"a": [1.0], "b": [2.0], "zz": more}
    assert _predict(server, "add", "inputs", inputs) == (200, {"outputs": [3.0]})


@row("A11", tf_serving='an object of "instances" must have the signature\'s keys')
def test_instances_have_the_signatures_keys(server):
    row_ = {"a": 1.0, "b": 2.0, "zz": 1}
    assert _predict(server, "add", "instances", [row_])[0] == 400


@row("A11", tf_serving="an input that is missing is an error, whatever else is there")
def test_inputs_that_are_missing_are_refused(server):
    status, answered = _predict(server, "add", "inputs", {"b": [2.0], "zz": 1})
    assert (status, "a" in answered["error"]) == (400, True)


@row("A12", tf_serving="true and false in a feature are the int64 1 and 0")
@pytest.mark.parametrize(
    "value, expected",
    [(True, 1.0), (False, 0.0), ([True, False, True], 2.0), ([True, 5], 6.0)],
    ids=str,
)
def test_booleans_in_features_are_integers(server, value, expected):
    body = {"signature_name": "regress_integers", "examples": [{"x": value}]}
    assert server.post("odd", body, "regress") == (200, {"results": [expected]})


@row("A12", tf_serving="true and false in the context are the int64 1 and 0")
def test_booleans_in_the_context_are_integers(server):
    body = {
        "signature_name": "regress_integers",
        "context": {"x": True},
        "examples": [{}, {}],
    }
    assert server.post("odd", body, "regress") == (200, {"results": [1.0, 1.0]})


@row("B12", tf_serving="a number beyond double is an error")
@pytest.mark.parametrize("number", [b"1e400", b"-1e400", b"[1.0, 1e309]"])
def test_numbers_beyond_double_are_refused(server, number):
    values = number if number.startswith(b"[") else b"[%s]" % number
    status, answered = _raw(server, "same", values)
    assert (status, set(answered)) == (400, {"error"})


@row("B12", tf_serving="a number beyond double in a feature is an error")
def test_numbers_beyond_double_in_features_are_refused(server):
    body = b'{"signature_name": "regress_floats", "examples": [{"x": 1e400}]}'
    status, answered = server.post("odd", body, "regress")
    assert (status, set(answered)) == (400, {"error"})


@row("B12", tf_serving="Inf, -Inf and -NaN are numbers, beside NaN and Infinity")
def test_short_names_of_infinity_are_read(server):
    status, answered = _raw(server, "same", b"[Inf, -Inf, Infinity, -NaN]")
    assert status == 200, answered
    *infinities, nan = answered["predictions"]
    assert infinities == [math.inf, -math.inf, math.inf]
    assert math.isnan(nan)


@row("B12", tf_serving="strings are bytes: they need not be UTF-8")
@pytest.mark.parametrize(
    "text", [b"caf\xe9", "café".encode(), b"\xff\xfe"], ids=["latin", "utf8", "none"]
)
def test_strings_are_the_bytes_that_are_sent(server, text):
    assert _decoded(_raw(server, "text", b'["%s"]' % text)) == [text]


@row(
    "B12",
    tf_serving="what follows the object is ignored",
    here="what follows the object is an error",
)
def test_what_follows_the_object_is_an_error(server):
    assert server.post("half_plus_two", b'{"instances": [[1.0]]} x')[0] == 400


@row(
    "B13",
    tf_serving="300 for a uint8 becomes 44",
    here="300 for a uint8 is an error",
)
def test_integers_that_do_not_fit_are_refused(server):
    assert _predict(server, "uint8", "instances", [255]) == (
        200,
        {"predictions": [255]},
    )
    status, answered = _predict(server, "uint8", "instances", [300])
    assert (status, "DT_UINT8" in answered["error"]) == (400, True)


@row(
    "B14",
    tf_serving="half, bfloat16 and uint16 have no JSON",
    here="they are read and written as numbers",
)
def test_half_has_json(server):
    found = _predict(server, "half", "instances", [0.5, 2])
    assert found == (200, {"predictions": [0.5, 2.0]})


@row("B14", tf_serving="complex numbers have no JSON: 400", here="the same with 501")
def test_complex_has_no_json(server):
    assert _predict(server, "complex", "instances", [0.5])[0] == 501


@row(
    "B15",
    tf_serving="integers and floats may not mix in one feature",
    here="mixed they are floats",
)
def test_integers_and_floats_mix(server):
    body = {"signature_name": "regress_floats", "examples": [{"x": [1, 2.5]}]}
    assert server.post("odd", body, "regress") == (200, {"results": [3.5]})


@row(
    "B16",
    tf_serving='objects of "instances" need all inputs, also those with defaults',
    here="inputs with defaults may be left out, as over gRPC",
)
def test_instances_may_leave_out_inputs_with_defaults(server):
    found = _predict(server, "add", "instances", [{"a": 1.0}])
    assert found == (200, {"predictions": [11.0]})


@row(
    "B17",
    tf_serving="1.6777216e+07, over several lines",
    here="16777216.0, the shortest decimal that is the same float, on one line",
)
def test_floats_are_written_as_the_shortest_decimals(server):
    body = '{"signature_name": "same", "instances": [16777216, 0.1]}'
    _, _, text = server.ask_raw("POST", "/v1/models/odd:predict", body)
    assert text == b'{"predictions": [16777216.0, 0.1]}'


@row(
    "B18",
    tf_serving="the first of two equal keys counts",
    here="the last of two equal keys counts",
)
def test_the_last_of_equal_keys_counts(server):
    body = b'{"instances": [[1.0]], "instances": [[2.0]]}'
    assert server.post("half_plus_two", body) == (200, {"predictions": [[3.0]]})


@row("B6", tf_serving="an unknown signature in REST has words of its own")
def test_unknown_signatures_have_their_words(server):
    body = {"signature_name": "nothing", "instances": [1.0]}
    assert server.post("half_plus_two", body) == (
        400,
        {"error": 'Serving signature name: "nothing" not found in signature def'},
    )


@row("B7", tf_serving="an unknown model is 404, whatever the body's keys")
@pytest.mark.parametrize("body", [{}, {"instances": [], "inputs": []}, {"x": 1}])
def test_unknown_models_are_not_found_whatever_the_body(server, body):
    assert server.post("nobody", body) == (
        404,
        {"error": "Servable not found for request: Latest(nobody)"},
    )


@row("B7", tf_serving="an unknown signature is said before a body's missing keys")
def test_unknown_signatures_come_before_missing_keys(server):
    status, answered = server.post("half_plus_two", {"signature_name": "nothing"})
    assert status == 400
    assert answered["error"].startswith('Serving signature name: "nothing" not found')


@row("B7", tf_serving="a body without either key has words of its own")
def test_a_body_without_inputs(server):
    assert server.post("half_plus_two", {}) == (
        400,
        {"error": "Missing 'inputs' or 'instances' key"},
    )


@row(
    "B28",
    tf_serving="messages over REST are not cut",
)
def test_messages_over_rest_are_not_cut(server):
    name = "n" * 3000
    body = {"signature_name": name, "instances": [1.0]}
    status, answered = server.post("half_plus_two", body)
    assert (status, name in answered["error"]) == (400, True)
    assert json.dumps(answered)
