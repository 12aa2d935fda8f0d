"""Limits that TF Serving has not: they are said, and bodies beyond them answered."""

import contextlib
import http.client

import pytest
from differences import row
from served import Code, fails, request, wait_for
from served_outside import serving

ROW = {"instances": [[1.0]]}


@pytest.fixture(scope="module")
def small(exports, tmp_path_factory):
    base = exports.copy("two", tmp_path_factory.mktemp("small") / "m" / "1")
    with serving(
        model_name="half_plus_two",
        model_base_path=base,
        host="0.0.0.0",
        max_http_connections=2,
        max_json_bytes=10_000,
        max_message_bytes=10_000,
    ) as server:
        yield server


@row(
    "A15",
    tf_serving="messages of up to 2 GiB, bodies of any size",
    here="--max_message_bytes 64 MiB, --max_json_bytes 16 MiB: more is "
    "RESOURCE_EXHAUSTED, 429",
)
def test_large_requests_are_refused(small):
    asked = request([[0.0]] * 10_000, name="half_plus_two")
    code, _ = fails(small.prediction.Predict, asked)
    assert code is Code.RESOURCE_EXHAUSTED
    status, answered = small.post("half_plus_two", {"instances": [[0.0]] * 10_000})
    assert (status, set(answered)) == (429, {"error"})


@row(
    "A15",
    tf_serving="any number of connections",
    here="--max_http_connections 256: more get 503",
)
def test_too_many_connections_are_told(small):
    with contextlib.ExitStack() as open_:
        for _ in range(2):
            connection = http.client.HTTPConnection(
                "localhost", small.rest_port, timeout=20
            )
            open_.enter_context(contextlib.closing(connection))
            connection.request("GET", "/v1/models/half_plus_two")
            assert connection.getresponse().read()
        status, answered = small.ask("GET", "/v1/models/half_plus_two")
        assert (status, set(answered)) == (503, {"error"})
    # Those that have gone make room.
    wait_for(lambda: small.post("half_plus_two", ROW)[0] == 200)


@row("A14", tf_serving="it listens on all interfaces", here="with `--host=0.0.0.0`")
def test_it_listens_on_all_interfaces_if_told(small):
    connection = http.client.HTTPConnection("127.0.0.2", small.rest_port, timeout=20)
    with contextlib.closing(connection):
        connection.request("GET", "/v1/models/half_plus_two")
        assert connection.getresponse().status == 200
