"""Models with ops of TensorFlow Text and of Decision Forests."""

import contextlib
import importlib.util
import pathlib

import grpc
import pytest
from differences import row
from served import wait_for
from served_outside import Reloads, model_config, serving
from tensorflow.core.protobuf import saved_model_pb2

END = 50
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


def _error(reloads, name: str, base: pathlib.Path) -> str:
    """What the status says of the model, which cannot be loaded."""
    with contextlib.suppress(grpc.RpcError):
        reloads.load(model_config(name, base))
    wait_for(lambda: reloads.server.states(name) == {1: END})
    _, found = reloads.server.ask("GET", f"/v1/models/{name}")
    return found["model_version_status"][0]["status"]["error_message"]


def _is_one_line(text: str, server) -> bool:
    return any(text in line for line in server.said().splitlines())


@row(
    "A13",
    tf_serving="the ops of TensorFlow Text and Decision Forests are linked in",
    here="they are imported when a model needs them; one line says which package to "
    "install",
)
@pytest.mark.parametrize(
    "package", [pytest.param(package, marks=_lacks(package)) for package in OPS]
)
def test_a_missing_package_is_named(reloads, exports, package):
    base = _with_op(exports, reloads.folder / "m", OPS[package])
    error = _error(reloads, package, base)
    assert OPS[package] in error
    assert package.replace("_", "-") in error
    assert "\n" not in error
    assert _is_one_line(error, reloads.server)


@pytest.fixture(scope="module")
def stood_in_for(exports, tmp_path_factory):
    """A server beside a package that can be imported, and one that cannot.

    What is imported leaves a file in `folder`.
    """
    folder = tmp_path_factory.mktemp("foreign")
    leaves = "import pathlib\npathlib.Path({!r}).touch()\n"
    does_not_fit = (
        "import tensorflow as tf\n"
        "raise tf.errors.NotFoundError(None, None, 'undefined symbol: _ZN10tensorflow')"
    )
    for package, last in zip(OPS, ("", does_not_fit), strict=True):
        (folder / "site" / package).mkdir(parents=True)
        text = leaves.format(str(folder / package)) + last
        (folder / "site" / package / "__init__.py").write_text(text)
    base = exports.copy("two", folder / "two" / "1")
    with serving(
        environment={"PYTHONPATH": str(folder / "site")},
        model_name="half_plus_two",
        model_base_path=base,
        max_num_load_retries=0,
    ) as server:
        yield Reloads(server, folder, model_config("half_plus_two", base))


@row("A13", tf_serving="the ops are there", here="the package is imported if installed")
@pytest.mark.parametrize("package", OPS)
def test_a_package_that_is_installed_is_imported(stood_in_for, exports, package):
    base = _with_op(exports, stood_in_for.folder / f"needs_{package}", OPS[package])
    _error(stood_in_for, f"needs_{package}", base)
    assert (stood_in_for.folder / package).exists()


@row(
    "A13",
    tf_serving="the ops are there",
    here="a package that does not fit this TensorFlow is named with its error",
)
def test_a_package_that_does_not_fit_is_named(stood_in_for, exports):
    package = "tensorflow_decision_forests"
    base = _with_op(exports, stood_in_for.folder / "unfit", OPS[package])
    error = _error(stood_in_for, "unfit", base)
    assert "tensorflow-decision-forests" in error
    assert "undefined symbol: _ZN10tensorflow" in error
    assert _is_one_line(error, stood_in_for.server)
    assert "Traceback" not in stood_in_for.server.said()
    assert stood_in_for.server.post("half_plus_two", {"instances": [[1.0]]})[0] == 200
