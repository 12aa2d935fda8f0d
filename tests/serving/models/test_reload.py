"""Config files and reload requests: which models are served, and their labels."""

import pathlib

import pytest
from served import (
    Code,
    answer,
    fails,
    free_port,
    managing,
    predicting,
    request,
    rest,
    running,
    save,
    states,
    wait_for,
)
from tensorflow_serving.apis import model_management_pb2

from serving import server as command
from serving.models.served_model import ModelConfig, ServedModel

LOADING, AVAILABLE, END = 20, 30, 50
ROW = {"instances": [[1, 2, 3]]}


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


def test_a_config_file_is_read_again(base):
    save(base / "1", 1.0)
    save(base / "2", 2.0)
    both = "model_version_policy { all {} } "
    labels = 'version_labels { key: "stable" value: 1 }'
    file = base.parent / "models.config"
    with running(
        model_config_file=_write(file, _config(base)),
        model_config_file_poll_wait_seconds=1,
    ) as server:
        assert states(server.grpc.ports[0]) == {2: AVAILABLE}
        _write(file, "oops {")  # A bad file changes nothing.
        _write(file, _config(base, both + labels))
        wait_for(lambda: len(states(server.grpc.ports[0])) == 2)
        wait_for(lambda: _label_answers(server, "stable"))
        assert _predict(server, version_label="stable") == 6.0
        path = "/v1/models/m/labels/stable:predict"
        status, answered = rest(server, "POST", path, ROW)
        assert (status, answered["predictions"][0]["y"]) == (200, 6.0)
        _write(file, _config(base, both, name="other"))
        wait_for(lambda: rest(server, "GET", "/v1/models/other")[0] == 200)
        wait_for(lambda: not _label_answers(server, "stable"))


def _label_answers(server, label: str) -> bool:
    return rest(server, "POST", f"/v1/models/m/labels/{label}:predict", ROW)[0] == 200


def test_a_reload_says_which_models_and_versions_are_served(base):
    for number in (1, 2):
        save(base / str(number), float(number))
    asked = model_management_pb2.ReloadConfigRequest()
    listed = asked.config.model_config_list.config
    config = listed.add(name="m", base_path=str(base), model_platform="tensorflow")
    config.model_version_policy.specific.versions.extend([1, 2])
    config.version_labels["stable"] = 1
    with (
        running(model_base_path=str(base)) as server,
        managing(server.grpc.ports[0]) as stub,
    ):
        assert states(server.grpc.ports[0]) == {2: AVAILABLE}
        assert stub.HandleReloadConfigRequest(asked).status.error_code == 0
        assert _predict(server, version_label="stable") == 6.0
        assert _predict(server) == 12.0
        # A label moves with the next request, and goes with one that lacks it.
        config.version_labels["stable"] = 2
        stub.HandleReloadConfigRequest(asked)
        assert _predict(server, version_label="stable") == 12.0
        del config.version_labels["stable"]
        stub.HandleReloadConfigRequest(asked)
        assert not _label_answers(server, "stable")
        # One that is left out is unloaded, and can come back.
        listed[0].name = "other"
        stub.HandleReloadConfigRequest(asked)
        assert _predict(server, name="other") == 12.0
        assert rest(server, "POST", "/v1/models/m:predict", ROW)[0] == 404
        wait_for(lambda: states(server.grpc.ports[0]) == {1: END, 2: END})
        listed[0].name = "m"
        stub.HandleReloadConfigRequest(asked)
        assert _predict(server) == 12.0


def test_a_model_that_is_left_out_goes_though_nobody_looks_for_versions(base):
    save(base / "1", 1.0)
    with running(model_base_path=str(base), file_system_poll_wait_seconds=0) as server:
        asked = model_management_pb2.ReloadConfigRequest()
        asked.config.model_config_list.SetInParent()
        with managing(server.grpc.ports[0]) as stub:
            stub.HandleReloadConfigRequest(asked)
        wait_for(lambda: states(server.grpc.ports[0]) == {1: END})
        assert not server.catalog.leaving


@pytest.mark.parametrize(
    "change, code, message",
    [
        (
            {"model_platform": "caffe"},
            Code.INVALID_ARGUMENT,
            "Model m has the platform caffe, which is not known; expected tensorflow",
        ),
        ({"base_path": "x"}, Code.INVALID_ARGUMENT, "Expected model m to have an abs"),
        ({"name": ""}, Code.INVALID_ARGUMENT, "has no name"),
        ({"twice": True}, Code.INVALID_ARGUMENT, "Illegal to list model m multiple"),
        ({"label": 8}, Code.FAILED_PRECONDITION, "label x to version 8 of model m"),
        ({"custom": True}, Code.INVALID_ARGUMENT, "Only ModelConfigList"),
        ({"nothing": True}, Code.INVALID_ARGUMENT, "Only ModelConfigList"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_what_a_reload_refuses_changes_nothing(base, change, code, message):
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        asked = model_management_pb2.ReloadConfigRequest()
        config = asked.config.model_config_list.config.add(
            name=change.get("name", "m"),
            base_path=change.get("base_path", str(base)),
            model_platform=change.get("model_platform", "tensorflow"),
        )
        if "label" in change:
            config.version_labels["x"] = change["label"]
        if "twice" in change:
            asked.config.model_config_list.config.append(config)
        if "custom" in change:
            asked.config.custom_model_config.SetInParent()
        if "nothing" in change:
            asked.ClearField("config")
        with managing(server.grpc.ports[0]) as stub:
            failure = fails(stub.HandleReloadConfigRequest, asked)
        assert failure[0] is code
        assert message in failure[1]
        assert _predict(server) == 6.0


def test_a_label_in_the_file_waits_for_its_version(base, capsys):
    save(base / "1", 1.0)
    file = base.parent / "models.config"
    policy = "model_version_policy { all {} } "
    with running(
        model_config_file=_write(file, _config(base)),
        model_config_file_poll_wait_seconds=1,
    ) as server:
        label = 'version_labels { key: "next" value: 2 }'
        _write(file, _config(base, policy + label))
        said = "version 2 of model m, which is not currently available"
        wait_for(lambda: said in capsys.readouterr().err)
        save(base / "2", 2.0)
        wait_for(lambda: _label_answers(server, "next"))


def test_a_config_file_that_is_taken_back_counts(base):
    save(base / "1", 1.0)
    save(base / "2", 2.0)
    file = base.parent / "models.config"
    with running(
        model_config_file=_write(file, _config(base)),
        model_config_file_poll_wait_seconds=1,
        file_system_poll_wait_seconds=0,
    ) as server:
        port = server.grpc.ports[0]
        # Its versions are served, but that of its label: so it is not done with.
        _junk(base / "3")
        both = "model_version_policy { all {} } "
        label = 'version_labels { key: "next" value: 3 }'
        _write(file, _config(base, both + label))
        wait_for(lambda: states(port) == {1: AVAILABLE, 2: AVAILABLE, 3: END})
        _write(file, _config(base))
        wait_for(lambda: states(port) == {1: END, 2: AVAILABLE, 3: END})


def _junk(version: pathlib.Path) -> None:
    aside = version.with_name(f"aside-{version.name}")
    aside.mkdir()
    (aside / "saved_model.pb").write_text("junk")
    aside.rename(version)


def test_a_label_in_use_answers_whatever_becomes_of_the_next_version(base):
    save(base / "1", 1.0)
    with (
        running(model_base_path=str(base)) as server,
        managing(server.grpc.ports[0]) as stub,
    ):
        port = server.grpc.ports[0]
        asked = model_management_pb2.ReloadConfigRequest()
        config = asked.config.model_config_list.config.add(
            name="m", base_path=str(base)
        )
        config.version_labels["stable"] = 1
        stub.HandleReloadConfigRequest(asked)
        save(base / "2", 2.0)
        _junk(base / "3")
        wanted = config.model_version_policy.specific.versions
        wanted.extend([2, 3])
        config.version_labels["stable"] = 3
        code, message = fails(stub.HandleReloadConfigRequest, asked)
        assert code is Code.FAILED_PRECONDITION
        assert "label stable to version 3" in message
        assert states(port) == {1: AVAILABLE, 2: AVAILABLE, 3: END}
        assert _predict(server, version_label="stable") == 6.0
        # What is known to have failed is said before anything is touched.
        del wanted[:]
        wanted.append(3)
        assert fails(stub.HandleReloadConfigRequest, asked) == (code, message)
        assert states(port)[2] == AVAILABLE
        # The label's version goes when the label has moved.
        wanted.append(2)
        config.version_labels["stable"] = 2
        stub.HandleReloadConfigRequest(asked)
        wait_for(lambda: states(port) == {1: END, 2: AVAILABLE, 3: END})
        assert _predict(server, version_label="stable") == 12.0


def test_a_base_path_that_is_a_version_is_refused(base, capsys):
    save(base / "1", 1.0)
    said = (
        f"Base path {base}/1 of model m is itself a version: it has a SavedModel in "
        f"it. Expected the folder that holds the versions, {base}"
    )
    given = ["--model_name=m", f"--model_base_path={base}/1", f"--port={free_port()}"]
    assert command.main(given) == 2
    assert capsys.readouterr().err.strip().splitlines()[-1] == f"error: {said}"
    with running(model_base_path=str(base)) as server:
        asked = model_management_pb2.ReloadConfigRequest()
        asked.config.model_config_list.config.add(name="m", base_path=f"{base}/1")
        with managing(server.grpc.ports[0]) as stub:
            refused = fails(stub.HandleReloadConfigRequest, asked)
        assert refused == (Code.INVALID_ARGUMENT, said)
        assert _predict(server) == 6.0


def test_how_models_ended_is_remembered_of_the_last_hundred(base):
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        catalog = server.catalog
        for number in range(120):
            config = ModelConfig(name=f"m{number}", base_path=str(base))
            model = ServedModel(config)
            catalog.leaving.append(model)
            catalog.leave(model)
        assert list(catalog.gone) == [f"m{number}" for number in range(20, 120)]


def test_labels_may_wait_for_their_versions(base):
    save(base / "1", 1.0)
    labels = """model_version_policy { all {} }
        version_labels { key: "next" value: 2 }
        version_labels { key: "stable" value: 1 }"""
    file = _write(base.parent / "models.config", _config(base, labels))
    with (
        running(
            model_config_file=file,
            allow_version_labels_for_unavailable_models=True,
        ) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        assert answer(stub.Predict(request(version_label="stable"))) == [6.0]
        assert fails(stub.Predict, request(version_label="next")) == (
            Code.NOT_FOUND,
            "Servable not found for request: Specific(m, 2)",
        )
        save(base / "2", 2.0)
        wait_for(lambda: states(server.grpc.ports[0]).get(2) == AVAILABLE)
        assert answer(stub.Predict(request(version_label="next"))) == [12.0]
        # One that answers does not move to a version that does not.
        asked = model_management_pb2.ReloadConfigRequest()
        config = asked.config.model_config_list.config.add(
            name="m", base_path=str(base)
        )
        config.model_version_policy.all.SetInParent()
        config.version_labels["stable"] = 7
        with managing(server.grpc.ports[0]) as models:
            assert fails(models.HandleReloadConfigRequest, asked) == (
                Code.FAILED_PRECONDITION,
                "Request to assign label stable to version 7 of model m, which is not "
                "currently available for inference",
            )
        assert answer(stub.Predict(request(version_label="stable"))) == [6.0]


def test_a_label_of_the_file_on_no_version_ends_the_start(base, capsys):
    save(base / "1", 1.0)
    label = 'version_labels { key: "next" value: 2 }'
    file = _write(base.parent / "models.config", _config(base, label))
    given = [f"--model_config_file={file}", f"--port={free_port()}"]
    assert command.main(given) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line == (
        "error: Request to assign label next to version 2 of model m, which is not "
        "currently available for inference"
    )
