"""Models with ops of TensorFlow Text and of Decision Forests."""

import importlib.util
import pathlib

import pytest
from differences import row
from served import wait_for
from served_outside import starting
from tensorflow.core.protobuf import saved_model_pb2

OPS = {
    "tensorflow_text": "WhitespaceTokenizeWithOffsetsV2",
    "tensorflow_decision_forests": "SimpleMLInferenceOpWithHandle",
}


def _with_op(exports, base: pathlib.Path, op: str) -> pathlib.Path:
    """A model that takes an op of that name, which nobody here has registered."""
    exports.copy("two", base / "1")
    file = base / "1" / "saved_model.pb"
    model = saved_model_pb2.SavedModel.FromString(file.read_bytes())
    for function in model.meta_graphs[0].graph_def.library.function:
        for node in function.node_def:
            if node.op == "AddV2":
                node.op = op
    file.write_bytes(model.SerializeToString())
    return base


def _lacks(package: str):
    is_there = importlib.util.find_spec(package) is not None
    return pytest.mark.skipif(is_there, reason=f"{package} is installed")


@row(
    "A13",
    tf_serving="the ops of TensorFlow Text and Decision Forests are linked in",
    here="they are imported when a model needs them; one line says which package to "
    "install",
)
@pytest.mark.parametrize(
    "package",
    [pytest.param(package, marks=_lacks(package)) for package in OPS],
)
def test_a_missing_package_is_named(exports, tmp_path, package):
    base = _with_op(exports, tmp_path / "m", OPS[package])
    with starting(model_base_path=base, max_num_load_retries=0) as server:
        wait_for(lambda: OPS[package] in server.said(), 60)
        name = package.replace("_", "-")
        lines = [line for line in server.said().splitlines() if name in line]
    assert lines
    assert all(OPS[package] in line for line in lines)


@row("A13", tf_serving="the ops are there", here="the package is imported if installed")
@pytest.mark.parametrize("package", OPS)
def test_a_package_that_is_installed_is_imported(exports, tmp_path, package):
    stands_in, mark = tmp_path / "site" / package, tmp_path / "imported"
    stands_in.mkdir(parents=True)
    (stands_in / "__init__.py").write_text(
        f"import pathlib\npathlib.Path({str(mark)!r}).touch()\n"
    )
    base = _with_op(exports, tmp_path / "m", OPS[package])
    with starting(
        environment={"PYTHONPATH": str(stands_in.parent)},
        model_base_path=base,
        max_num_load_retries=0,
    ) as server:
        wait_for(lambda: OPS[package] in server.said(), 60)
        assert mark.exists()


@row(
    "A13",
    tf_serving="the ops are there",
    here="a package that does not fit this TensorFlow is named with its error",
)
def test_a_package_that_does_not_fit_is_named(exports, tmp_path):
    stands_in = tmp_path / "site" / "tensorflow_text"
    stands_in.mkdir(parents=True)
    (stands_in / "__init__.py").write_text(
        "import tensorflow as tf\n"
        "raise tf.errors.NotFoundError(None, None, 'undefined symbol: _ZN10tensorflow')"
    )
    base = _with_op(exports, tmp_path / "m", OPS["tensorflow_text"])
    with starting(
        environment={"PYTHONPATH": str(stands_in.parent)},
        model_base_path=base,
        max_num_load_retries=0,
    ) as server:
        wait_for(lambda: OPS["tensorflow_text"] in server.said(), 60)
        said = server.said()
    lines = [line for line in said.splitlines() if "undefined symbol" in line]
    assert lines
    assert all("tensorflow-text" in line for line in lines)
    assert "Traceback" not in said
