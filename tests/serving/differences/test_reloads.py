"""HandleReloadConfigRequest: what it answers, and what is served then."""

import shutil

import grpc
import pytest
import tensorflow as tf
from differences import row
from served import Code, wait_for
from served_outside import model_config

ALL = "model_version_policy { all {} }"
AVAILABLE, END = 30, 50
ROW = {"instances": [[1.0]]}


def _specific(*versions: int, **labels: int) -> str:
    numbers = " ".join(f"versions: {number}" for number in versions)
    named = " ".join(
        f'version_labels {{ key: "{label}" value: {number} }}'
        for label, number in labels.items()
    )
    return f"model_version_policy {{ specific {{ {numbers} }} }} {named}"


def _refused(reloads, *configs, seconds: float = 30) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        reloads.load(*configs, seconds=seconds)
    return caught.value


def _error(server, name: str, version: int) -> str:
    """What the status says of a version that has ended."""
    _, found = server.ask("GET", f"/v1/models/{name}/versions/{version}")
    return found["model_version_status"][0]["status"]["error_message"]


@row(
    "A2",
    tf_serving="UNKNOWN, with each new model that did not become available, and why",
)
def test_a_new_model_that_cannot_be_loaded_is_an_error(reloads, exports):
    base = exports.junk(reloads.folder / "broken" / "7")
    error = _refused(reloads, model_config("broken", base))
    assert error.code() is Code.UNKNOWN
    assert error.details().startswith("1 model(s) did not become available: {")
    assert "broken" in error.details()
    server = reloads.server
    # The others serve on, and the status says why this one does not.
    assert server.post("half_plus_two", ROW)[0] == 200
    assert server.states("broken") == {7: END}
    assert _error(server, "broken", 7)


@row("A2", tf_serving="all new models that failed are named, and no others")
def test_all_new_models_that_cannot_be_loaded_are_named(reloads, exports):
    names = "first", "second"
    bases = [exports.junk(reloads.folder / name / "1") for name in names]
    bases.append(exports.copy("three", reloads.folder / "fine" / "1"))
    error = _refused(reloads, *(model_config(base.name, base) for base in bases))
    assert error.details().startswith("2 model(s) did not become available: {")
    assert all(name in error.details() for name in names)
    assert "fine" not in error.details()
    assert reloads.server.post("fine", ROW) == (200, {"predictions": [[3.5]]})


@row("A2", tf_serving="a model whose warm-up fails did not become available either")
def test_a_new_model_that_fails_its_warm_up_is_an_error(reloads, exports):
    base = exports.copy("warmed", reloads.folder / "cold" / "1")
    file = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    file.write_bytes(file.read_bytes()[:-9])
    error = _refused(reloads, model_config("cold", base))
    assert (error.code(), "cold" in error.details()) == (Code.UNKNOWN, True)


@row(
    "A2",
    tf_serving="for a base path that is missing or empty the call waits for a version "
    "until its deadline",
    here="an error, or the deadline: never OK",
)
@pytest.mark.parametrize("kind", ["missing", "empty"])
def test_a_new_model_without_versions_is_an_error(reloads, kind):
    base = reloads.folder / kind
    if kind == "empty":
        base.mkdir()
    error = _refused(reloads, model_config(kind, base), seconds=10)
    waits = error.code() is Code.DEADLINE_EXCEEDED
    assert waits or kind in error.details()
    assert reloads.server.post("half_plus_two", ROW)[0] == 200


@row("A2", tf_serving="a version that comes later is served all the same")
def test_a_version_that_comes_after_the_error_is_served(reloads, exports):
    base = reloads.folder / "late"
    base.mkdir()
    _refused(reloads, model_config("late", base), seconds=5)
    exports.copy("two", base / "1")
    wait_for(lambda: reloads.server.post("late", ROW)[0] == 200)


@row("A2", tf_serving="only new models are waited for")
def test_versions_of_models_that_serve_are_not_waited_for(reloads, exports):
    base = exports.copy("two", reloads.folder / "m" / "1")
    reloads.load(model_config("m", base))
    exports.junk(base / "2")
    response = reloads.load(model_config("m", base, ALL))
    assert response.status.error_code == 0
    wait_for(lambda: reloads.server.states("m").get(2) == END)
    assert reloads.server.post("m", ROW)[0] == 200


@row("A4", tf_serving="labels are checked before any model is touched")
def test_a_label_on_no_version_leaves_all_as_it_was(reloads, exports):
    base = exports.copy("two", reloads.folder / "m" / "123")
    exports.copy("three", base / "124")
    new = exports.copy("two", reloads.folder / "new" / "1")
    server = reloads.server
    before = _specific(123, stable=123)
    reloads.load(model_config("m", base, before))
    error = _refused(
        reloads,
        model_config("m", base, _specific(124, stable=999)),
        model_config("new", new),
    )
    assert error.code() is Code.FAILED_PRECONDITION
    assert "stable" in error.details()
    assert "999" in error.details()
    states = server.states("m")
    assert states[123] == AVAILABLE
    assert states.get(124) != AVAILABLE
    two = 200, {"predictions": [[2.5]]}
    assert server.post("m", ROW) == two
    assert server.post("m/labels/stable", ROW) == two
    assert server.post("m/labels/other", ROW)[0] == 400
    assert server.post("new", ROW)[0] == 404


@row("A4", tf_serving="one model's label that is wrong keeps the others from moving")
def test_a_wrong_label_of_one_model_moves_no_other(reloads, exports):
    good = exports.copy("two", reloads.folder / "good" / "1")
    exports.copy("three", good / "2")
    bad = exports.copy("two", reloads.folder / "bad" / "1")
    before = (
        model_config("good", good, _specific(1, 2, stable=1)),
        model_config("bad", bad, _specific(1, stable=1)),
    )
    reloads.load(*before)
    error = _refused(
        reloads,
        model_config("good", good, _specific(1, 2, stable=2)),
        model_config("bad", bad, _specific(1, stable=5)),
    )
    assert error.code() is Code.FAILED_PRECONDITION
    for name in ("good", "bad"):
        found = reloads.server.post(f"{name}/labels/stable", ROW)
        assert found == (200, {"predictions": [[2.5]]})


@row(
    "B22",
    tf_serving="labels of versions that are not loaded yet are refused, at the start "
    "too",
    here="a label may name a version that the same config loads",
)
def test_labels_may_name_versions_of_the_same_config(reloads, exports):
    base = exports.copy("two", reloads.folder / "m" / "1")
    reloads.load(model_config("m", base, _specific(1, stable=1)))
    exports.copy("three", base / "2")
    reloads.load(model_config("m", base, _specific(1, 2, stable=1, canary=2)))
    found = reloads.server.post("m/labels/canary", ROW)
    assert found == (200, {"predictions": [[3.5]]})


@row("B3", tf_serving="the END state of a removed model's versions stays")
def test_the_end_of_a_removed_model_is_remembered(reloads, exports):
    base = exports.copy("two", reloads.folder / "gone" / "1")
    reloads.load(model_config("gone", base))
    assert reloads.server.states("gone") == {1: AVAILABLE}
    reloads.load()
    # Until it has ended it is unloading; what counts is that it is not forgotten.
    wait_for(lambda: reloads.server.states("gone") == {1: END})
    assert reloads.server.states("gone") == {1: END}
    assert reloads.server.post("gone", ROW)[0] == 404


@row("B3", tf_serving="a model that comes back serves again")
def test_a_removed_model_can_come_back(reloads, exports):
    base = exports.copy("two", reloads.folder / "back" / "1")
    for configs in ([model_config("back", base)], [], [model_config("back", base)]):
        reloads.load(*configs)
    wait_for(lambda: reloads.server.states("back")[1] == AVAILABLE)
    assert reloads.server.post("back", ROW)[0] == 200


@row("B20", tf_serving="the response has a status")
def test_the_response_has_a_status(reloads):
    response = reloads.load()
    assert response.HasField("status")
    assert (response.status.error_code, response.status.error_message) == (0, "")


@row(
    "B20",
    tf_serving="it has the increase of the metrics that metric_names asks for",
    here="the same, of this server's metrics",
)
def test_the_response_has_the_metrics_that_are_asked_for(reloads):
    asked = ":tensorflow:serving:request_count"
    response = reloads.load(metric_names=[asked])
    assert [metric.name for metric in response.metric] == [asked]


@row(
    "B26",
    tf_serving="one missing base path stops the polling of all models",
    here="it stops that of its own model",
)
def test_a_missing_base_path_keeps_no_other_model(reloads, exports):
    gone = exports.copy("two", reloads.folder / "gone" / "1")
    m = exports.copy("two", reloads.folder / "m" / "1")
    reloads.load(model_config("gone", gone), model_config("m", m))
    shutil.rmtree(gone)
    exports.copy("three", m / "2")
    wait_for(lambda: reloads.server.post("m", ROW) == (200, {"predictions": [[3.5]]}))


@row("B27", tf_serving="of several versions the highest is loaded first")
def test_the_highest_version_is_loaded_first(reloads, exports):
    versions = (1, 2, 3, 10)
    for version in versions:
        base = exports.copy("two", reloads.folder / "order" / str(version))
    before = reloads.server.said()
    reloads.load(model_config("order", base, ALL))
    said = reloads.server.said().removeprefix(before)
    places = [said.index(f"order version {v} is available") for v in versions]
    assert min(places) == places[-1]
    assert places == sorted(places, reverse=True)


@row("B31", tf_serving="a warm-up record without a log_type is passed over")
def test_a_warm_up_record_of_no_kind_is_passed_over(reloads, exports):
    base = exports.copy("warmed", reloads.folder / "unmarked" / "1")
    file = base / "1" / "assets.extra" / "tf_serving_warmup_requests"
    records = list(tf.data.TFRecordDataset(str(file)).as_numpy_iterator())
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in (b"", *records, b""):
            writer.write(record)
    reloads.load(model_config("unmarked", base))
    assert reloads.server.states("unmarked") == {1: AVAILABLE}
