"""Versions that come, go, fail and wait: policies, labels, config files, warm-up."""

import pathlib
import re
import shutil
import threading

import grpc
import pytest
import tensorflow as tf
from served import (
    answer,
    predicting,
    request,
    rest,
    running,
    save,
    save_any,
    states,
    wait_for,
)

from serving.errors import ServingError
from serving.fronts import json_requests
from serving.models import loader
from serving.models.loader import Loader
from serving.models.versions import ModelVersion
from serving.status_codes import Code

LOADING, AVAILABLE, UNLOADING, END = 20, 30, 40, 50


@pytest.fixture
def base(tmp_path):
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


def _config(base: pathlib.Path, more: str = "", name: str = "m") -> str:
    return (
        f'model_config_list {{ config {{ name: "{name}" base_path: "{base}" '
        f'model_platform: "tensorflow" {more} }} }}'
    )


def _write(path: pathlib.Path, text: str) -> str:
    aside = path.with_name("aside")
    aside.write_text(text)
    aside.rename(path)
    return str(path)


def _predict(server, **spec) -> float:
    with predicting(server.grpc.ports[0]) as stub:
        return answer(stub.Predict(request(**spec), timeout=20))[0]


@pytest.mark.parametrize(
    "policy, served",
    [
        ("", {3}),
        ("latest { num_versions: 2 }", {2, 3}),
        ("all {}", {1, 2, 3}),
        ("specific { versions: 1 versions: 9 }", {1}),
    ],
)
def test_the_policy_says_which_versions_answer(base, policy, served):
    for number in (1, 2, 3):
        save(base / f"{number:03}", float(number))
    more = f"model_version_policy {{ {policy} }}" if policy else ""
    file = _write(base.parent / "models.config", _config(base, more))
    with running(model_config_file=file) as server:
        assert states(server.grpc.ports[0]) == dict.fromkeys(served, AVAILABLE)
        for number in served:
            assert _predict(server, version=number) == 6.0 * number
        # Without a version, the newest one answers.
        assert _predict(server) == 6.0 * max(served)
        status, _ = rest(
            server, "POST", f"/v1/models/m/versions/{max(served)}:predict", ROW
        )
        assert status == 200


ROW = {"instances": [[1, 2, 3]]}


def test_folders_that_are_no_versions_are_passed_over(base):
    largest = 2**63 - 1
    save(base / str(largest), 1.0)
    # No message could hold the first; the others are no integers of ASCII.
    for name in (str(largest + 1), "1.5", "-1", "v2", "\uff12"):
        save(base / name, 2.0)
    with running(model_base_path=str(base)) as server:
        assert states(server.grpc.ports[0]) == {largest: AVAILABLE}
        assert _predict(server) == _predict(server, version=largest) == 6.0
        path = f"/v1/models/m/versions/{largest}:predict"
        assert rest(server, "POST", path, ROW)[0] == 200


def test_a_half_copied_version_never_answers_and_says_why(base):
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        save(base.parent / "whole", 2.0)
        (base / "2").mkdir()
        source = base.parent / "whole"
        (base / "2" / "saved_model.pb").write_bytes(
            (source / "saved_model.pb").read_bytes()
        )
        port = server.grpc.ports[0]
        wait_for(lambda: states(port).get(2) == END)
        assert _predict(server) == 6.0
        _, answered = rest(server, "GET", "/v1/models/m/versions/2")
        (status,) = answered["model_version_status"]
        assert status["state"] == "END"
        assert status["status"]["error_code"] != "OK"
        assert status["status"]["error_message"]


def _cut(data: pathlib.Path) -> None:
    # The last variable's bytes are missing.
    data.write_bytes(data.read_bytes()[:3])


@pytest.mark.parametrize(
    "harm, code, text",
    [
        (_cut, "DATA_LOSS", "variables.data-* have 3 bytes; expected at least 4"),
        (
            pathlib.Path.unlink,
            "DATA_LOSS",
            "variables.data-* have 0 bytes; expected at least 4",
        ),
        (
            lambda data: shutil.rmtree(data.parent),
            "NOT_FOUND",
            "Failed to find any matching files for ",
        ),
    ],
)
def test_variables_are_looked_at_before_the_graph_is_made(
    base, monkeypatch, harm, code, text
):
    save(base / "1", 2.0)
    harm(base / "1" / "variables" / "variables.data-00000-of-00001")
    made = []
    monkeypatch.setattr(tf, "Graph", lambda: made.append(1))
    with pytest.raises(ServingError, match=re.escape(text)) as raised:
        Loader(lambda model: None).load("m", str(base / "1"))
    assert raised.value.code is Code[code]
    assert not made


def test_a_failed_version_is_tried_again_until_it_is_whole(base):
    save(base / "1", 1.0)
    save(base.parent / "whole", 2.0)
    with running(
        model_base_path=str(base),
        max_num_load_retries=100,
        load_retry_interval_micros=100_000,
    ) as server:
        (base / "2").mkdir()
        port = server.grpc.ports[0]
        wait_for(lambda: states(port).get(2) is not None)
        assert _predict(server) == 6.0
        for name in ("variables", "assets", "saved_model.pb", "fingerprint.pb"):
            (base.parent / "whole" / name).rename(base / "2" / name)
        wait_for(lambda: states(port).get(2) == AVAILABLE)
        wait_for(lambda: states(port).get(1) == END)
        assert _predict(server) == 12.0


class _Slow(tf.Module):
    @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
    def predict(self, x):
        def step(i, square):
            return i + 1, tf.matmul(square, square) / 1000.0

        start = tf.ones([300, 300]) * tf.reduce_mean(x)
        _, last = tf.while_loop(lambda i, _: i < 500, step, [0, start])
        return {"y": tf.reduce_sum(x, 1) + 0.0 * last[0, 0]}


def test_an_old_version_finishes_its_requests_before_it_goes(base):
    model = _Slow()
    save_any(base / "1", model, {"serving_default": model.predict})
    with (
        running(model_base_path=str(base)) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        stub.Predict(request())
        save(base.parent / "2", 2.0)
        calls = [stub.Predict.future(request()) for _ in range(8)]
        (base.parent / "2").rename(base / "2")
        answers = [call.result(timeout=120) for call in calls]
        assert {response.model_spec.version.value for response in answers} == {1}
        wait_for(lambda: states(server.grpc.ports[0]) == {1: END, 2: AVAILABLE})
        assert stub.Predict(request()).model_spec.version.value == 2


@pytest.mark.parametrize(
    "batching", [False, pytest.param(True, marks=pytest.mark.slow)]
)
def test_no_request_fails_while_versions_come_and_fail(base, batching):
    save(base / "1", 1.0, warmup=[request()])
    for number in (2, 4, 5):
        save(base.parent / str(number), float(number), warmup=[request()])
    save(base.parent / "3", 3.0, warmup=[request([1, 2])])  # It must not serve.
    seen, failures, ended = set(), [], threading.Event()
    with running(model_base_path=str(base), enable_batching=batching) as server:
        port = server.grpc.ports[0]

        def run():
            with predicting(port) as stub:
                while not ended.is_set():
                    try:
                        response = stub.Predict(request(), timeout=20)
                        version = response.model_spec.version.value
                        assert answer(response) == [6.0 * version]
                        seen.add(version)
                    except (grpc.RpcError, AssertionError) as error:
                        failures.append(error)

        threads = [threading.Thread(target=run) for _ in range(4)]
        for thread in threads:
            thread.start()
        for number in (2, 3, 4, 5):
            (base.parent / str(number)).rename(base / str(number))
            expected = END if number == 3 else AVAILABLE
            wait_for(lambda n=number, e=expected: states(port).get(n) == e)
        wait_for(lambda: 5 in seen)
        ended.set()
        for thread in threads:
            thread.join()
        wait_for(lambda: states(port) == {1: END, 2: END, 3: END, 4: END, 5: AVAILABLE})
    assert not failures
    assert 3 not in seen


def test_a_version_that_goes_answers_the_json_that_it_was_read_for(base, monkeypatch):
    save(base / "1", 1.0)
    save(base.parent / "2", 2.0)
    with running(model_base_path=str(base)) as server:
        fill = json_requests.fill_predict

        def fill_while_it_goes(*arguments):
            fill(*arguments)
            (base.parent / "2").rename(base / "2")
            wait_for(
                lambda: states(server.grpc.ports[0]) == {1: UNLOADING, 2: AVAILABLE}
            )

        monkeypatch.setattr(json_requests, "fill_predict", fill_while_it_goes)
        status, answered = rest(server, "POST", "/v1/models/m:predict", ROW)
        assert (status, answered["predictions"][0]["y"]) == (200, 6.0)


def test_a_newer_version_does_not_wait_for_a_retry(base):
    save(base / "1", 1.0)
    with running(
        model_base_path=str(base),
        max_num_load_retries=1,
        load_retry_interval_micros=3_600_000_000,
    ) as server:
        port = server.grpc.ports[0]
        (base / "2").mkdir()
        wait_for(lambda: states(port).get(2) == LOADING)
        save(base / "3", 3.0)
        wait_for(lambda: states(port) == {1: END, 2: END, 3: AVAILABLE})


def test_loading_is_tried_again_so_many_times(base, monkeypatch):
    tried = []

    def load(files, *_):
        tried.append(files.path)
        raise ServingError(Code.DATA_LOSS, f"attempt {len(tried)}")

    monkeypatch.setattr(loader, "load_saved_model", load)
    save(base / "1", 1.0)
    with running(
        model_base_path=str(base),
        max_num_load_retries=2,
        load_retry_interval_micros=1000,
    ) as server:
        _, answered = rest(server, "GET", "/v1/models/m")
    assert tried == [str(base / "1")] * 3
    (status,) = answered["model_version_status"]
    assert status == {
        "version": "1",
        "state": "END",
        "status": {"error_code": "DATA_LOSS", "error_message": "attempt 3"},
    }


def test_a_version_that_goes_while_it_is_looked_up_is_looked_up_again(
    base, monkeypatch
):
    save(base / "1", 1.0)
    save(base.parent / "2", 2.0)
    with running(model_base_path=str(base)) as server:
        take = ModelVersion.take

        def go_first(version):
            if version.number == 1:
                (base.parent / "2").rename(base / "2")
                wait_for(lambda: states(server.grpc.ports[0]) == {1: END, 2: AVAILABLE})
            return take(version)

        monkeypatch.setattr(ModelVersion, "take", go_first)
        assert _predict(server) == 12.0


def test_version_0_is_any_unless_there_is_one(base):
    save(base / "0", 3.0)
    save(base / "1", 1.0)
    policy = "model_version_policy { all {} }"
    file = _write(base.parent / "models.config", _config(base, policy))
    with running(model_config_file=file) as server:
        assert _predict(server, version=0) == 18.0
        assert _predict(server, version=1) == _predict(server) == 6.0
    with running(model_base_path=str(base)) as server:
        assert states(server.grpc.ports[0]) == {1: AVAILABLE}
        assert _predict(server, version=0) == 6.0


def test_a_failed_version_is_loaded_when_it_comes_again(base):
    save(base / "1", 1.0)
    save(base.parent / "whole", 2.0)
    with running(model_base_path=str(base)) as server:

        def error() -> str:
            _, answered = rest(server, "GET", "/v1/models/m/versions/2")
            return answered["model_version_status"][0]["status"]["error_code"]

        (base / "2").mkdir()
        wait_for(lambda: states(server.grpc.ports[0]).get(2) == END)
        assert error() != "OK"
        (base / "2").rename(base.parent / "broken")
        wait_for(lambda: error() == "OK")
        assert _predict(server) == 6.0
        (base.parent / "whole").rename(base / "2")
        wait_for(lambda: states(server.grpc.ports[0])[2] == AVAILABLE)
        assert _predict(server) == 12.0


def test_a_model_without_versions_does_not_keep_others(base):
    save(base / "1", 1.0)
    nowhere, empty = base.parent / "nowhere", base.parent / "empty"
    empty.mkdir()
    models = {"a": nowhere, "b": empty, "m": base}
    listed = (
        f'config {{ name: "{name}" base_path: "{path}" }}'
        for name, path in models.items()
    )
    file = base.parent / "models.config"
    _write(file, f"model_config_list {{ {' '.join(listed)} }}")
    with running(model_config_file=str(file)) as server:
        assert _predict(server) == 6.0
        for name in "ab":
            assert rest(server, "GET", f"/v1/models/{name}") == (
                404,
                {"error": f"Could not find any versions of model {name}"},
            )
        # They are looked at again.
        save(empty / "4", 4.0)
        wait_for(lambda: rest(server, "GET", "/v1/models/b")[0] == 200)
