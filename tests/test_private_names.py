"""Private names of other packages: which are in use, each in one file, and for what.

They may change with any release of the package. So each has a reason here, and a new
one makes the test fail until it has one, too.
"""

import ast
import collections
import importlib
import inspect
import pathlib
import re
from collections.abc import Iterable, Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGES = ("recap_tf", "twhin_tf", "serving")

USED = {
    # gin: recap_tf.core.config.gin_registry
    "_REGISTRY": "misspelt names in a config are found before anything is built",
    "_CONFIG": "the settings in force are written down as they were ordered",
    "_IMPORTS": "the settings in force import what the config imported",
    # Keras and tensorflow-recommenders: recap_tf.core.keras_privates
    "_set_hyper": "learning rates of optimizers of our own",
    "_serialize_hyperparameter": "their configs",
    "_hyper": "a resumed run has the learning rate of its config, not the old one",
    "_fallback_apply_state": "updates of single rows read their learning rate",
    "_create_all_weights": "checkpoints are restored before the first update",
    "_optimizers_and_vars": "a balancing and large tables bring their optimizers",
    "_track_trackable": "checkpoints number these optimizers after the others",
    # TensorFlow
    "__internal__": "tables that are cut over parameter servers are told from others",
    "_make_callable_from_options": "serving calls a signature in a third of the time",
    "tensorflow.python.framework.convert_to_constants": "exports without variables",
    "tensorflow.python.framework": "op_def_registry: ops that a model needs and nobody"
    " has registered are named",
    "tensorflow.python.grappler": "what is constant in them is computed beforehand",
    # Documented with its underscore.
    "_exit": "os._exit: a server ends although TensorFlow's threads are about",
}
"""Private name or module -> what needs it."""

OVERRIDDEN = {
    "_prepare_local": "Adam adds epsilon after the bias correction",
    "_create_slots": "state of rows: one number each, or two numbers side by side",
    "_resource_apply_dense": "a whole table is updated as all its rows are",
    "_resource_apply_sparse": "the updates of single rows",
    "_resource_apply_sparse_duplicate_indices": "gradients of a row add up by sorting",
    "_HAS_AGGREGATE_GRAD": "optimizers of our own add up gradients over replicas",
}
"""Private name that a class of ours defines, and a class above it of another package
-> what for. In Keras's legacy optimizers these are the way to write one."""


def _is_private(name: str) -> bool:
    return name == "__internal__" or bool(re.match(r"_[^_]", name))


def _is_internal(module: str) -> bool:
    return bool(re.match(r"tensorflow\.python\b|(tf_)?keras\.src\b", module))


def _defined(tree: ast.AST) -> set[str]:
    """Names of functions, classes and variables, and of attributes of self and cls."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif (
            isinstance(node, ast.Attribute)
            and isinstance(node.ctx, ast.Store)
            and _is_self(node.value)
        ):
            names.add(node.attr)
    return names


def _is_self(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super"
    return isinstance(node, ast.Name) and node.id in ("self", "cls")


def foreign_privates(texts: dict[str, str]) -> dict[str, set[str]]:
    """Private name or internal module -> the files that use it.

    One is ours if the same file defines it or, on self, cls and super(), any file.

    Args:
        texts: file -> its source.
    """
    trees = {path: ast.parse(text) for path, text in texts.items()}
    here = {path: _defined(tree) for path, tree in trees.items()}
    everywhere = set().union(*here.values())
    uses = collections.defaultdict(set)
    for path, tree in trees.items():
        for node in ast.walk(tree):
            for name in _private_uses(node, here[path], everywhere):
                uses[name].add(path)
    return dict(uses)


def _private_uses(node: ast.AST, here: set[str], everywhere: set[str]) -> list[str]:
    if isinstance(node, ast.Attribute):
        ours = everywhere if _is_self(node.value) else here
        names = [node.attr]
    elif isinstance(node, ast.Call) and ast.unparse(node.func) in (
        "getattr",
        "setattr",
        "hasattr",
    ):
        ours = everywhere if _is_self(node.args[0]) else here
        names = [arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)]
    elif isinstance(node, ast.Import):
        return [alias.name for alias in node.names if _is_internal(alias.name)]
    elif isinstance(node, ast.ImportFrom):
        if _is_internal(node.module):
            return [node.module]
        ours, names = set(), [alias.name for alias in node.names]
    else:
        return []
    return [name for name in names if _is_private(name) and name not in ours]


def _texts() -> dict[str, str]:
    return {
        str(path.relative_to(ROOT)): path.read_text()
        for package in PACKAGES
        for path in sorted((ROOT / package).rglob("*.py"))
    }


def test_every_private_name_in_use_is_listed_and_none_besides():
    assert set(foreign_privates(_texts())) == set(USED)


def test_each_is_used_in_one_file():
    crowded = {
        name: sorted(paths)
        for name, paths in foreign_privates(_texts()).items()
        if len(paths) > 1
    }
    assert not crowded


def test_the_privates_of_one_package_share_a_file():
    uses = foreign_privates(_texts())
    gin = {path for n in ("_REGISTRY", "_CONFIG", "_IMPORTS") for path in uses[n]}
    keras = {
        path
        for name in ("_hyper", "_set_hyper", "_optimizers_and_vars")
        for path in uses[name]
    }
    assert len(gin) == len(keras) == 1
    assert "__internal__" not in "".join(keras)


def overridden(classes: Iterable[type], ours: set[str]) -> dict[str, set[str]]:
    """Private name -> the classes that define it over one of another package.

    Args:
        classes: of our packages.
        ours: names that our files define; Python gives classes further ones.
    """
    names = collections.defaultdict(set)
    for kind in classes:
        # A mixin of ours may come before their class only where the two meet.
        by_us, by_them = set(), set()
        for base in kind.__mro__:
            package = base.__module__.split(".")[0]
            (by_us if package in PACKAGES else by_them).update(vars(base))
        for name in by_us & by_them & ours:
            if _is_private(name):
                names[name].add(kind.__name__)
    return dict(names)


def _own_classes() -> Iterator[type]:
    for path in _texts():
        name = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        module = importlib.import_module(name)
        for kind in vars(module).values():
            if inspect.isclass(kind) and kind.__module__ == name:
                yield kind


def test_every_private_name_that_is_overridden_is_listed_and_none_besides():
    ours = set().union(*(_defined(ast.parse(text)) for text in _texts().values()))
    assert set(overridden(_own_classes(), ours)) == set(OVERRIDDEN)


@pytest.mark.parametrize(
    "text, expected",
    [
        ("optimizer._hyper['rate']", {"_hyper"}),
        ("import gin\ngin.config._REGISTRY.clear()", {"_REGISTRY"}),
        ("class A(B):\n  def f(self): return self._built", {"_built"}),
        ("class A(B):\n  def f(self): super()._set(1)", {"_set"}),
        ("getattr(model, '_losses', None)", {"_losses"}),
        ("from keras import _hidden", {"_hidden"}),
        ("import tensorflow as tf\ntf.__internal__.x", {"__internal__"}),
        (
            "from tensorflow.python.framework import ops",
            {"tensorflow.python.framework"},
        ),
        ("import tensorflow.python.eager", {"tensorflow.python.eager"}),
        ("from tf_keras.src import backend", {"tf_keras.src"}),
        ("import keras.src.layers", {"keras.src.layers"}),
        ("class A:\n  def __init__(self): self._x = 1\n  def f(self): self._x", set()),
        ("class A:\n  def _f(self): ...\ndef g(a): a._f()", set()),
        ("a.__class__, a.public, getattr(a, 'public')", set()),
        ("from tensorflow import python_io, pythonic", set()),
    ],
)
def test_a_use_is_noticed(text, expected):
    assert set(foreign_privates({"a.py": text})) == expected


def test_a_private_name_of_ours_is_foreign_in_another_file():
    texts = {"a.py": "class A:\n  def _f(self): ...", "b.py": "def g(a): a._f()"}
    assert foreign_privates(texts) == {"_f": {"b.py"}}
    texts["b.py"] = "class B(A):\n  def g(self): self._f()"
    assert foreign_privates(texts) == {}


def test_overriding_is_noticed():
    class Decoder(ast.NodeVisitor):
        def _own(self): ...

    class Named(collections.UserDict):
        _abc_impl = None

    Decoder.__module__ = Named.__module__ = "recap_tf.a"
    ours = {"_own", "_abc_impl"}
    assert overridden([Decoder, Named], ours) == {"_abc_impl": {"Named"}}
    assert overridden([Named], {"_own"}) == {}
