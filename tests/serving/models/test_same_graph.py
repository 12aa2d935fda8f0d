"""Which versions are the same graph with other variables."""

import pathlib
import shutil

import pytest
import tensorflow as tf
from served import save, save_computing, times
from tensorflow.core.protobuf import saved_model_pb2

from serving.models import same_graph
from serving.models.version_files import VersionFiles


def _fingerprint(folder: pathlib.Path) -> bytes | None:
    return VersionFiles(str(folder)).fingerprint


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
        {f.signature.name for f in graph.library.function} for graph in (first, second)
    ]
    assert not names[0] & names[1]
    fingerprint = _fingerprint(tmp_path / "1")
    assert fingerprint is not None
    assert fingerprint == _fingerprint(tmp_path / "2")


def _one_of_two(self, x):
    total = self.factor * tf.reduce_sum(x, axis=1)
    which = tf.cast(total[0] > 0, tf.int32)
    # Ops that only a branch has are not in the list of those that are known.
    return tf.switch_case(which, [lambda: 2.0 * total, lambda: 3.0 * total])


def test_the_numbers_of_functions_in_a_list_are_not_the_graphs(tmp_path):
    graphs = []
    for number in "12":
        save_computing(tmp_path / number, _one_of_two)
        meta_graph = VersionFiles(str(tmp_path / number)).meta_graph
        nodes = [
            node
            for one in meta_graph.graph_def.library.function
            for node in one.node_def
        ]
        [case] = [node for node in nodes if node.op in ("Case", "StatelessCase")]
        graphs.append([branch.name for branch in case.attr["branches"].list.func])
    assert graphs[0] != graphs[1]
    fingerprint = _fingerprint(tmp_path / "1")
    assert fingerprint is not None
    assert fingerprint == _fingerprint(tmp_path / "2")


def test_what_is_computed_is_the_graphs(tmp_path):
    save_computing(tmp_path / "1", times(1.0))
    save_computing(tmp_path / "2", times(1.0), 5.0)
    save_computing(tmp_path / "3", times(2.0))
    one, two, three = (_fingerprint(tmp_path / number) for number in "123")
    assert one == two != three


@pytest.mark.parametrize(
    "part", ["default", "method", "output", "saver", "initializer", "function"]
)
def test_all_that_is_run_and_seen_is_the_graphs(tmp_path, part):
    save_computing(tmp_path / "1", times(1.0))
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
    elif part == "saver":
        model.meta_graphs[0].saver_def.restore_op_name = "NoOp"
    elif part == "initializer":
        collection = model.meta_graphs[0].collection_def["saved_model_main_op"]
        collection.node_list.value[:] = ["StatefulPartitionedCall"]
    else:
        for function in model.meta_graphs[0].graph_def.library.function:
            for node in function.node_def:
                if node.op == "Sum":
                    node.attr["keep_dims"].b = True
    path.write_bytes(model.SerializeToString())
    assert _fingerprint(tmp_path / "1") != _fingerprint(tmp_path / "2")


def test_what_only_messages_use_is_not_the_graphs(tmp_path):
    save_computing(tmp_path / "1", times(1.0))
    shutil.copytree(tmp_path / "1", tmp_path / "2")
    path = tmp_path / "2" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            node.attr["_user_specified_name"].s = b"17"
            node.experimental_debug_info.original_func_names.append("before_17")
        function.arg_attr[0].attr["_user_specified_name"].s = b"17"
    path.write_bytes(model.SerializeToString())
    assert _fingerprint(tmp_path / "1") == _fingerprint(tmp_path / "2")


def test_functions_that_are_called_by_name_alone(tmp_path):
    """As graphs of TensorFlow 1 call them: the op is the function."""
    fingerprints = []
    for number in ("_7", "_80"):
        with tf.Graph().as_default() as graph:
            tf.raw_ops.VarHandleOp(dtype=tf.float32, shape=[], shared_name="v")
            tf.constant(1.0, name="c")
            meta_graph = tf.compat.v1.train.export_meta_graph(graph=graph)
        meta_graph.saver_def.filename_tensor_name = "c:0"
        meta_graph.saver_def.restore_op_name = "c"
        function = meta_graph.graph_def.library.function.add()
        function.signature.name = f"f{number}"
        meta_graph.graph_def.node.add(name="call", op=f"f{number}", input=["c"])
        assert same_graph.is_refillable(meta_graph)
        fingerprints.append(same_graph.fingerprint(meta_graph))
    assert fingerprints[0] == fingerprints[1]


def _thrown(self, x):
    return self.factor * tf.random.uniform(tf.shape(x)[:1], seed=1)


def test_state_that_variables_do_not_put_back(tmp_path):
    save_computing(tmp_path / "1", _thrown)
    assert _fingerprint(tmp_path / "1") is None


def test_variables_that_a_function_makes_do_not_go_with_their_version(tmp_path):
    save_computing(tmp_path / "1", times(1.0))
    meta_graph = VersionFiles(str(tmp_path / "1")).meta_graph
    assert same_graph.is_refillable(meta_graph)
    function = meta_graph.graph_def.library.function[0]
    function.node_def.add(name="made", op="VarHandleOp")
    assert not same_graph.is_refillable(meta_graph)


def test_ops_that_are_not_listed_may_remember_anything(tmp_path):
    save_computing(tmp_path / "1", times(1.0))
    meta_graph = VersionFiles(str(tmp_path / "1")).meta_graph
    assert same_graph.is_refillable(meta_graph)
    del meta_graph.meta_info_def.stripped_op_list.op[:]
    assert not same_graph.is_refillable(meta_graph)


def test_files_are_their_versions_own(tmp_path):
    save_computing(tmp_path / "1", times(1.0))
    meta_graph = VersionFiles(str(tmp_path / "1")).meta_graph
    assert same_graph.is_refillable(meta_graph)
    meta_graph.asset_file_def.add(filename="words")
    assert not same_graph.is_refillable(meta_graph)


def test_without_variables_there_is_nothing_to_read_anew(tmp_path):
    save_computing(tmp_path / "1", lambda self, x: 2.0 * tf.reduce_sum(x, axis=1))
    meta_graph = VersionFiles(str(tmp_path / "1")).meta_graph
    others = [node for node in meta_graph.graph_def.node if node.op != "VarHandleOp"]
    assert len(others) < len(meta_graph.graph_def.node)
    assert same_graph.is_refillable(meta_graph)
    del meta_graph.graph_def.node[:]
    meta_graph.graph_def.node.extend(others)
    assert not same_graph.is_refillable(meta_graph)
