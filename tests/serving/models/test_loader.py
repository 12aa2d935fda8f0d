"""Versions of one graph: it is made once, and each answers with its own variables."""

import os
import pathlib
import shutil
import threading

import numpy as np
import pytest
import tensorflow as tf
from served import (
    answer,
    fails,
    managing,
    predicting,
    request,
    rest,
    running,
    save,
    save_any,
    save_computing,
    states,
    times,
    wait_for,
)
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import ServingError
from serving.models import priority, program
from serving.models.loader import Loader
from serving.models.saved_model import SavedModel
from serving.models.version_files import VersionFiles

START, LOADING, AVAILABLE, END = 10, 20, 30, 50
_ALL = "model_version_policy { all {} }"


@pytest.fixture
def base(tmp_path):
    (tmp_path / "m").mkdir()
    return tmp_path / "m"


@pytest.fixture
def imports(monkeypatch):
    """Grows by one for each graph that is made of a file."""
    made, make = [], program.import_program

    def note(*arguments):
        made.append(1)
        return make(*arguments)

    monkeypatch.setattr("serving.models.saved_model.import_program", note)
    return made


def _config(base, policy: str = _ALL) -> dict:
    """Flags that serve all versions below `base`."""
    path = base.parent / "models.config"
    path.write_text(
        f'model_config_list {{ config {{ name: "m" base_path: "{base}" {policy} }} }}'
    )
    return {"model_config_file": str(path)}


def _predict(server, x=((1, 2, 3),), **spec) -> list[float]:
    with predicting(server.grpc.ports[0]) as stub:
        return answer(stub.Predict(request(x, **spec)))


def _serves(server, number: int) -> None:
    """Waits until that version, and no other, is there."""
    port = server.grpc.ports[0]
    alive = lambda: {  # noqa: E731
        version: state for version, state in states(port).items() if state != END
    }
    wait_for(lambda: alive() == {number: AVAILABLE})


def _fingerprint(folder: pathlib.Path) -> bytes | None:
    return VersionFiles(str(folder)).fingerprint


def _looked_up(self, x):
    ids = self.table.lookup(tf.strings.as_string(tf.cast(x[:, 0], tf.int64)))
    return self.factor * tf.cast(ids, tf.float32)


def _table(folder: pathlib.Path, *words: str) -> tf.lookup.StaticVocabularyTable:
    folder.mkdir()
    (folder / "words").write_text("\n".join(words))
    return tf.lookup.StaticHashTable(
        tf.lookup.TextFileInitializer(
            str(folder / "words"),
            tf.string,
            tf.lookup.TextFileIndex.WHOLE_LINE,
            tf.int64,
            tf.lookup.TextFileIndex.LINE_NUMBER,
        ),
        default_value=-1,
    )


def _counted(self, x):
    return self.factor.assign_add(1.0) + 0.0 * tf.reduce_sum(x, axis=1)


def test_tables_of_files_are_their_versions_own(base):
    for number, words in ((1, "45"), (2, "5"), (3, "905")):
        table = _table(base.parent / f"words-{number}", *words)
        save_computing(base / str(number), _looked_up, table=table)
        assert _fingerprint(base / str(number)) is None
    with running(**_config(base)) as server:
        answers = [_predict(server, ((5, 0, 0),), version=i) for i in (1, 2, 3)]
        assert answers == [[1.0], [0.0], [2.0]]


def test_a_version_that_counts_starts_at_its_own_number(base, imports):
    _count = lambda server: [_predict(server) for _ in range(2)]  # noqa: E731
    save_computing(base / "1", _counted, 10.0)
    with running(model_base_path=str(base)) as server:
        assert _count(server) == [[11.0], [12.0]]
        for number in (2, 3):  # The third one is in the first one's session.
            save_computing(base / str(number), _counted, 10.0 * number)
            _serves(server, number)
            start = 10.0 * number
            assert _count(server) == [[start + 1.0], [start + 2.0]]
    assert imports == [1]


@pytest.mark.parametrize("batching", [False, True])
def test_a_graph_is_made_once_and_each_version_has_its_variables(
    base, imports, batching
):
    save(base / "1", 1.0)
    with running(model_base_path=str(base), enable_batching=batching) as server:
        for number in range(1, 6):
            if number > 1:
                save(base / str(number), float(number))
            _serves(server, number)
            assert _predict(server) == [6.0 * number]
            # Of a shape and a kind that only this version is asked for.
            rows = [[1.0, 1.0, 1.0]] * number
            assert _predict(server, rows) == [3.0 * number] * number
    assert imports == [1]


@pytest.mark.parametrize("batching", [False, True])
def test_versions_of_one_graph_answer_side_by_side(base, imports, batching):
    for number in (1, 2, 3):
        save(base / str(number), float(number))
    wrong = []

    def ask(stub, number: int) -> None:
        for _ in range(100):
            answers = answer(stub.Predict(request(version=number)))
            if answers != [6.0 * number]:
                wrong.append((number, answers))

    with (
        running(**_config(base), enable_batching=batching) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        threads = [
            threading.Thread(target=ask, args=(stub, number))
            for number in (1, 2, 3) * 2
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert not wrong
    assert imports == [1]


def test_another_graph_is_made_and_the_old_one_goes(base, imports):
    save_computing(base / "1", times(1.0), 2.0)
    with running(model_base_path=str(base)) as server:
        assert _predict(server) == [12.0]
        save_computing(base / "2", times(10.0), 3.0)
        _serves(server, 2)
        assert _predict(server) == [180.0]
        save_computing(base / "3", times(10.0), 4.0)
        _serves(server, 3)
        assert _predict(server) == [240.0]
        # Back to the first one, that nothing is left of.
        save_computing(base / "4", times(1.0), 5.0)
        _serves(server, 4)
        assert _predict(server) == [30.0]
    assert len(imports) == 3


def _save_doubled(folder: pathlib.Path, factor: float, named_by: str) -> None:
    """A graph of TensorFlow 1: y = twice the variable, a variable that is not saved.

    What is to be done after loading is named by a "collection", or a "signature".
    """
    v1 = tf.compat.v1
    with tf.Graph().as_default(), v1.Session() as session:
        x = v1.placeholder(tf.float32, [None, 3], "x")
        saved, doubled = [
            v1.get_variable(name, initializer=0.0, use_resource=True)
            for name in ("saved", "doubled")
        ]
        double = doubled.assign(2.0 * saved.read_value()).op
        y = doubled * tf.reduce_sum(x, axis=1)
        session.run(saved.initializer, {saved.initializer.inputs[1]: factor})
        builder = v1.saved_model.Builder(str(folder.parent / "aside-doubled"))
        signature = v1.saved_model.predict_signature_def({"x": x}, {"y": y})
        builder.add_meta_graph_and_variables(
            session,
            ["serve"],
            {"serving_default": signature},
            main_op=double,
            saver=v1.train.Saver([saved]),
        )
        builder.save()
    if named_by == "signature":
        path = folder.parent / "aside-doubled" / "saved_model.pb"
        model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
        [meta_graph] = model.meta_graphs
        del meta_graph.collection_def["saved_model_main_op"]
        named = meta_graph.signature_def["__saved_model_init_op"]
        named.outputs["__saved_model_init_op"].name = double.name
        path.write_bytes(model.SerializeToString())
    (folder.parent / "aside-doubled").rename(folder)


@pytest.mark.parametrize("named_by", ["collection", "signature"])
def test_what_is_done_after_the_variables_are_read_is_done_for_each(
    base, imports, named_by
):
    _save_doubled(base / "1", 1.0, named_by)
    with running(model_base_path=str(base)) as server:
        for number in (1, 2, 3):
            if number > 1:
                _save_doubled(base / str(number), float(number), named_by)
            _serves(server, number)
            assert _predict(server) == [12.0 * number]
    assert imports == [1]


def _take_variables_of_another_model(folder: pathlib.Path) -> None:
    """Its files are whole, but the graph's variables are not in them."""
    shutil.rmtree(folder / "variables")
    (folder / "variables").mkdir()
    checkpoint = tf.train.Checkpoint(unknown=tf.Variable([1.0, 2.0]))
    checkpoint.write(str(folder / "variables" / "variables"))


def test_variables_that_cannot_be_read_spoil_nothing(base, imports):
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        save(base.parent / "other", 2.0)
        _take_variables_of_another_model(base.parent / "other")
        (base.parent / "other").rename(base / "2")
        port = server.grpc.ports[0]
        wait_for(lambda: states(port).get(2) == END)
        _, answered = rest(server, "GET", "/v1/models/m/versions/2")
        (status,) = answered["model_version_status"]
        assert status["status"]["error_code"] == "NOT_FOUND"
        assert "not found in checkpoint" in status["status"]["error_message"]
        assert _predict(server) == [6.0]
        save(base / "3", 3.0)
        _serves(server, 3)
        assert _predict(server) == [18.0]
    assert imports == [1]


def test_a_version_that_fails_its_warm_up_leaves_its_session(base, imports):
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        save(base / "2", 2.0, warmup=[request([1, 2])])
        wait_for(lambda: states(server.grpc.ports[0]).get(2) == END)
        assert _predict(server) == [6.0]
        save(base / "3", 3.0)
        _serves(server, 3)
        assert _predict(server) == [18.0]
    assert imports == [1]


def _load(loader: Loader, folder: pathlib.Path) -> SavedModel:
    return loader.load("m", str(folder))


def _run(model: SavedModel) -> float:
    signature = model.signature("serving_default")
    given = {"x": np.ones([1, 3], np.float32)}
    return float(model.run(signature, given, ["y"])["y"][0])


def test_variables_of_a_version_that_fails_its_warm_up_go(base):
    for number in (1, 2):
        save(base / str(number), float(number))
    warmed = []

    def fails_the_second_time(model):
        warmed.append(model)
        if len(warmed) == 2:
            raise ValueError("not well")

    loader = Loader(fails_the_second_time)
    first = _load(loader, base / "1")
    with pytest.raises(ValueError, match="not well"):
        _load(loader, base / "2")
    assert warmed[1].path is None
    with pytest.raises(ServingError, match="Could not find variable"):
        _run(warmed[1])
    assert _run(first) == 3.0


def test_text_variables_are_of_any_length(base):
    class Words(tf.Module):
        def __init__(self):
            super().__init__()
            self.words = tf.Variable(["a"] * 1000)
            self.number = tf.Variable(2.0)

        @tf.function(input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")])
        def predict(self, x):
            known = tf.cast(tf.reduce_all(self.words == "a"), tf.float32)
            return {"y": known * self.number * tf.reduce_sum(x, axis=1)}

    module = Words()
    save_any(base / "1", module, {"serving_default": module.predict})
    assert _run(_load(Loader(_run), base / "1")) == 6.0


def test_a_session_is_made_ahead_of_the_next_version(base, monkeypatch):
    for number in (1, 2, 3, 4):
        save(base / str(number), float(number))
    loader = Loader(_run, ahead=True)
    first = _load(loader, base / "1")
    loader.prepare("m", first)
    loader.prepare("m", first)  # There is one now.
    made, session = [], tf.compat.v1.Session
    monkeypatch.setattr(
        session, "_make_callable_from_options", lambda *_: made.append("callable")
    )
    monkeypatch.setattr(tf.compat.v1, "Session", lambda **_: made.append("session"))
    second = _load(loader, base / "2")
    assert second is not first
    loader.unload("m", first)
    with pytest.raises(ServingError, match="Could not find variable"):
        _run(first)
    third = _load(loader, base / "3")
    assert third is first
    assert (_run(second), _run(third)) == (6.0, 9.0)
    assert not made


def test_no_session_is_made_ahead_unless_versions_are_looked_for(base):
    save(base / "1", 1.0)
    loader = Loader(_run)
    model = _load(loader, base / "1")
    loader.prepare("m", model)
    assert not loader._vacant
    loader.unload("m", model)
    assert loader._vacant


def test_variables_that_are_cut_are_seen_before_they_are_read(base, monkeypatch):
    for number in (1, 2, 3):
        save(base / str(number), float(number))
    (base / "2/variables/variables.data-00000-of-00001").write_bytes(b"cut")
    loader = Loader(_run)
    model = _load(loader, base / "1")
    with monkeypatch.context() as patched:
        patched.setattr(SavedModel, "fill", None)
        with pytest.raises(ServingError, match="have 3 bytes; expected at least 4"):
            _load(loader, base / "2")
    assert (_run(model), _run(_load(loader, base / "3"))) == (3.0, 9.0)


def test_a_session_whose_filling_fails_is_there_for_the_next_version(base):
    for number in (1, 2, 3):
        save(base / str(number), float(number))
    loader = Loader(_run, ahead=True)
    first = _load(loader, base / "1")
    loader.prepare("m", first)
    vacant = loader._vacant["m"]
    _take_variables_of_another_model(base / "2")
    with pytest.raises(ServingError, match="not found in checkpoint"):
        _load(loader, base / "2")
    assert _load(loader, base / "3") is vacant


def test_half_read_variables_do_not_stay(base):
    save(base / "1", 1.0)
    shutil.copytree(base / "1", base / "2")
    _take_variables_of_another_model(base / "2")
    model = _load(Loader(_run), base / "1")
    with pytest.raises(ServingError):
        model.fill(VersionFiles(str(base / "2")))
    with pytest.raises(ServingError, match="Could not find variable"):
        _run(model)
    assert model.path is None


@pytest.mark.parametrize("seconds, ahead", [(0.1, True), (0.0, False)])
def test_the_server_looks_ahead_if_it_looks_for_versions(
    base, monkeypatch, seconds, ahead
):
    made, get_ready = [], SavedModel.get_ready

    def note(model, like):
        get_ready(model, like)
        made.append(model)

    monkeypatch.setattr(SavedModel, "get_ready", note)
    save(base / "1", 1.0)
    with running(model_base_path=str(base), file_system_poll_wait_seconds=seconds):
        if ahead:
            wait_for(lambda: len(made) == 1)
    assert len(made) == ahead


def test_of_another_graph_the_old_ones_session_is_closed(base, monkeypatch):
    closed, close = [], SavedModel.close
    monkeypatch.setattr(
        SavedModel, "close", lambda model: closed.append(model) or close(model)
    )
    save_computing(base / "1", times(1.0))
    save_computing(base / "2", times(2.0))
    loader = Loader(_run, ahead=True)
    first = _load(loader, base / "1")
    loader.prepare("m", first)
    second = _load(loader, base / "2")
    assert len(closed) == 1 and first not in closed
    loader.unload("m", first)
    assert first in closed
    loader.prepare("m", second)
    loader.forget("m")
    assert len(closed) == 3 and second not in closed


def test_a_model_that_is_left_out_leaves_nothing(base, monkeypatch):
    closed, close = [], SavedModel.close
    monkeypatch.setattr(
        SavedModel, "close", lambda model: closed.append(model) or close(model)
    )
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        save(base / "2", 2.0)
        _serves(server, 2)
        assert not closed
        port = server.grpc.ports[0]
        with managing(port) as stub:
            asked = model_management_pb2.ReloadConfigRequest()
            asked.config.model_config_list.CopyFrom(
                model_server_config_pb2.ModelConfigList()
            )
            stub.HandleReloadConfigRequest(asked)
        wait_for(lambda: len(closed) == 2)
        with predicting(port) as stub:
            assert fails(stub.Predict, request())[1].startswith("Servable not found")


def test_variables_are_read_behind_requests(base, monkeypatch):
    save(base / "1", 1.0)
    niced = []
    monkeypatch.setattr(
        "serving.models.saved_model.run_behind_requests",
        lambda run: niced.append(run()),
    )
    model = _load(Loader(_run), base / "1")
    assert len(niced) == 1
    # Not in TensorFlow's threads, which have the requests' priority.
    assert model.program.refill.restore.options.run_options.inter_op_thread_pool == -1


def test_a_niced_thread_does_what_it_is_told():
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def look():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert priority.run_behind_requests(look) == min(19, mine + 10)
    assert look() == mine
    with pytest.raises(ZeroDivisionError):
        priority.run_behind_requests(lambda: 1 / 0)
