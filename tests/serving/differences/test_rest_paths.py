"""Paths and verbs of the REST API."""

import pytest
from differences import row
from served import fails, request

ROW, ANSWER = {"instances": [[1.0]]}, {"predictions": [[2.5]]}


def _malformed(verb: str, path: str) -> tuple:
    return 400, {"error": f"Malformed request: {verb} {path}"}


@row("B8", tf_serving="a path without a model's name has words of its own")
@pytest.mark.parametrize("path", ["/v1/models"])
def test_a_missing_name_is_said(server, path):
    expected = 400, {"error": "Missing model name in request."}
    assert server.ask("GET", path) == expected


@row("B9", tf_serving="names with an escaped / or : work")
@pytest.mark.parametrize("name", ["a%2Fb", "a%2fb", "c%3Ad", "h%61lf_plus_two"])
def test_names_are_unescaped_after_the_path_is_read(server, name):
    assert server.post(name, ROW) == (200, ANSWER)
    assert server.post(f"{name}/versions/124", ROW) == (200, ANSWER)
    assert server.ask("GET", f"/v1/models/{name}")[0] == 200
    status, answered = server.ask("GET", f"/v1/models/{name}/metadata")
    assert status == 200
    assert answered["model_spec"]["name"] in ("a/b", "c:d", "half_plus_two")


@row("B9", tf_serving="labels are unescaped")
def test_labels_are_unescaped(server):
    path = "/v1/models/half_plus_two/labels/%73table:predict"
    assert server.ask("POST", path, ROW) == (200, ANSWER)


@row("B9", tf_serving="an escaped : does not end a name")
@pytest.mark.parametrize(
    "path", ["/v1/models/half_plus_two%3Apredict", "/v1%2Fmodels/half_plus_two:predict"]
)
def test_escaped_separators_separate_nothing(server, path):
    status, answered = server.ask("POST", path, ROW)
    assert status in (400, 404)
    assert set(answered) == {"error"} if status == 400 else True


@row("B9", tf_serving="the path's own words are read in any case")
@pytest.mark.parametrize(
    "path",
    [
        "/V1/Models/half_plus_two:PREDICT",
        "/v1/models/half_plus_two/Versions/123:predict",
        "/v1/MODELS/half_plus_two/labels/stable:Predict",
    ],
)
def test_paths_are_read_in_any_case(server, path):
    assert server.ask("POST", path, ROW) == (200, ANSWER)


@row("B9", tf_serving="models' names are not read in any case")
def test_names_are_not_read_in_any_case(server):
    assert server.post("Half_Plus_Two", ROW)[0] == 404


@row(
    "B10",
    tf_serving="a path with a query is malformed",
    here="the query is ignored",
)
def test_the_query_is_ignored(server):
    path = "/v1/models/half_plus_two:predict?key=1"
    assert server.ask("POST", path, ROW) == (200, ANSWER)


@row(
    "B11",
    tf_serving="OPTIONS is 200 with any http Origin, whatever the flag says",
    here="OPTIONS is malformed without --rest_api_enable_cors_support",
)
def test_options_needs_the_flag(server, batching):
    path = "/v1/models/half_plus_two:predict"
    origin = {"Origin": "http://elsewhere"}
    assert server.ask("OPTIONS", path, **origin) == _malformed("OPTIONS", path)
    status, headers, _ = batching.ask_raw("OPTIONS", path, **origin)
    assert status == 200
    assert headers["Access-Control-Allow-Origin"] == "*"
    assert {"GET", "POST"} <= set(headers["Access-Control-Allow-Methods"].split(", "))
    status, headers, _ = batching.ask_raw("POST", path, b"{", **origin)
    assert (status, headers["Access-Control-Allow-Origin"]) == (400, "*")


@row(
    "B28",
    tf_serving="messages over gRPC are cut at 1024 characters and end with "
    "...TRUNCATED",
)
def test_messages_over_grpc_are_cut(server):
    asked = request([1.0], name="half_plus_two", signature_name="n" * 3000)
    _, message = fails(server.prediction.Predict, asked)
    assert 900 < len(message) <= 1024
    assert message.endswith("...TRUNCATED")


@row("B8", tf_serving="other malformed paths say verb and path")
@pytest.mark.parametrize(
    "verb, path",
    [
        ("GET", "/v1/models/half_plus_two:predict"),
        ("POST", "/v1/models/half_plus_two"),
        ("POST", "/v1/models/half_plus_two:train"),
        ("POST", "/v1/models/half_plus_two/versions/x:predict"),
        ("POST", "/v1/models/half_plus_two/versions/1/labels/stable:predict"),
        ("PUT", "/v1/models/half_plus_two:predict"),
        ("GET", "/v1/models/half_plus_two/metadata/more"),
    ],
)
def test_malformed_paths(server, verb, path):
    body = ROW if verb == "POST" else None
    assert server.ask(verb, path, body) == _malformed(verb, path)
