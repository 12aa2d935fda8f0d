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
    states,
    wait_for,
)
from tensorflow.core.protobuf import saved_model_pb2
from tensorflow_serving.apis import model_management_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving import priority, program, same_graph
from serving.loader import Loader
from serving.saved_model import SavedModel
from serving.version_files import VersionFiles

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

    monkeypatch.setattr("serving.saved_model.import_program", note)
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


class _Any(tf.Module):
    """One signature, `compute(self, x)`, of a module with a variable."""

    def __init__(self, compute, factor: float = 1.0, **kept):
        super().__init__()
        self.factor = tf.Variable(factor)
        for name, value in kept.items():
            setattr(self, name, value)
        self.predict = tf.function(
            lambda x: {"y": compute(self, x)},
            input_signature=[tf.TensorSpec([None, 3], tf.float32, "x")],
        )


def _save(folder: pathlib.Path, compute, *arguments, **kept) -> None:
    module = _Any(compute, *arguments, **kept)
    save_any(folder, module, {"serving_default": module.predict})


def _times(constant: float):
    return lambda self, x: self.factor * constant * tf.reduce_sum(x, axis=1)


def test_the_numbers_of_functions_are_not_the_graphs(tmp_path):
    save(tmp_path / "1", 1.0)
    save(tmp_path / "2", 2.0)
    first, second = [
        saved_model_pb2.SavedModel.FromString(
            (tmp_path / number / "saved_model.pb").read_bytes()
        )
        .meta_graphs[0]
        .graph_def
        for number in "12"
    ]
    names = [
        {one.signature.name for one in graph.library.function}
        for graph in (first, second)
    ]
    assert not names[0] & names[1]
    found = _fingerprint(tmp_path / "1")
    assert found is not None
    assert found == _fingerprint(tmp_path / "2")


def test_what_is_computed_is_the_graphs(tmp_path):
    _save(tmp_path / "1", _times(1.0))
    _save(tmp_path / "2", _times(1.0), 5.0)
    _save(tmp_path / "3", _times(2.0))
    one, two, three = (_fingerprint(tmp_path / number) for number in "123")
    assert one == two != three


@pytest.mark.parametrize("part", ["default", "method", "output", "function"])
def test_what_clients_see_is_the_graphs(tmp_path, part):
    _save(tmp_path / "1", _times(1.0))
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    path = tmp_path / "2" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    signature = model.meta_graphs[0].signature_def["serving_default"]
    if part == "default":
        signature.defaults["x"].CopyFrom(tf.make_tensor_proto([[1.0, 2.0, 3.0]]))
    elif part == "method":
        signature.method_name = "tensorflow/serving/regress"
    elif part == "output":
        signature.outputs["z"].CopyFrom(signature.outputs["y"])
    else:
        for function in model.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                if node.op == "Sum":
                    node.attr["keep_dims"].b = True
    path.write_bytes(model.SerializeToString())
    assert _fingerprint(tmp_path / "1") != _fingerprint(tmp_path / "2")


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


def _thrown(self, x):
    return self.factor * tf.random.uniform(tf.shape(x)[:1], seed=1)


@pytest.mark.parametrize("compute", [_counted, _thrown])
def test_state_that_variables_do_not_put_back(tmp_path, compute):
    _save(tmp_path / "1", compute)
    assert _fingerprint(tmp_path / "1") is None


def test_ops_that_are_not_listed_may_remember_anything(tmp_path):
    _save(tmp_path / "1", _times(1.0))
    meta_graph = VersionFiles(str(tmp_path / "1")).meta_graph
    assert same_graph.is_refillable(meta_graph)
    del meta_graph.meta_info_def.stripped_op_list.op[:]
    assert not same_graph.is_refillable(meta_graph)


def test_tables_of_files_are_their_versions_own(base):
    for number, words in ((1, "45"), (2, "5"), (3, "905")):
        table = _table(base.parent / f"words-{number}", *words)
        _save(base / str(number), _looked_up, table=table)
        assert _fingerprint(base / str(number)) is None
    with running(**_config(base)) as server:
        found = [_predict(server, ((5, 0, 0),), version=i) for i in (1, 2, 3)]
        assert found == [[1.0], [0.0], [2.0]]


def test_a_version_that_counts_starts_at_its_own_number(base):
    _save(base / "1", _counted, 10.0)
    with running(model_base_path=str(base)) as server:
        assert [_predict(server) for _ in range(3)] == [[11.0], [12.0], [13.0]]
        _save(base / "2", _counted, 20.0)
        _serves(server, 2)
        assert _predict(server) == [21.0]


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
            found = answer(stub.Predict(request(version=number)))
            if found != [6.0 * number]:
                wrong.append((number, found))

    with (
        running(**_config(base), enable_batching=batching) as server,
        predicting(server.grpc.ports[0]) as stub,
    ):
        threads = [
            threading.Thread(target=ask, args=(stub, number))
            for number in (1, 2, 3) * 2
        ]
        for one in threads:
            one.start()
        for one in threads:
            one.join()
    assert not wrong
    assert imports == [1]


def test_another_graph_is_made_and_the_old_one_goes(base, imports):
    _save(base / "1", _times(1.0), 2.0)
    with running(model_base_path=str(base)) as server:
        assert _predict(server) == [12.0]
        _save(base / "2", _times(10.0), 3.0)
        _serves(server, 2)
        assert _predict(server) == [180.0]
        _save(base / "3", _times(10.0), 4.0)
        _serves(server, 3)
        assert _predict(server) == [240.0]
        # Back to the first one, that nothing is left of.
        _save(base / "4", _times(1.0), 5.0)
        _serves(server, 4)
        assert _predict(server) == [30.0]
    assert len(imports) == 3


def test_variables_that_cannot_be_read_spoil_nothing(base, imports):
    save(base / "1", 1.0)
    with running(model_base_path=str(base)) as server:
        save(base.parent / "other", 2.0)
        # Whole files of another model: the graph's variables are not in them.
        shutil.rmtree(base.parent / "other" / "variables")
        checkpoint = tf.train.Checkpoint(unknown=tf.Variable([1.0, 2.0]))
        written = checkpoint.write(str(base.parent / "written"))
        (base.parent / "other" / "variables").mkdir()
        for part in ("index", "data-00000-of-00001"):
            os.rename(
                f"{written}.{part}",
                base.parent / "other" / "variables" / f"variables.{part}",
            )
        (base.parent / "other").rename(base / "2")
        port = server.grpc.ports[0]
        wait_for(lambda: states(port).get(2) == END)
        _, found = rest(server, "GET", "/v1/models/m/versions/2")
        (status,) = found["model_version_status"]
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
        save(base / "2", 2.0, warmup=[request([[1, 2]])])
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


def test_a_niced_thread_does_what_it_is_told():
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    def look():
        return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())

    assert priority.run_behind_requests(look) == min(19, mine + 10)
    assert look() == mine
    with pytest.raises(ZeroDivisionError):
        priority.run_behind_requests(lambda: 1 / 0)
