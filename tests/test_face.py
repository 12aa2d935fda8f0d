"""What is imported from the packages themselves, and the examples in docstrings."""

import doctest
import importlib
import pkgutil
import subprocess
import sys

import pytest

import recap_tf
import twhin_tf

PACKAGES = {"recap_tf": recap_tf, "twhin_tf": twhin_tf}
NAMES = [
    f"{package}.{name}" for package, module in PACKAGES.items() for name in dir(module)
]


def _modules() -> list[str]:
    """Every module of the two packages, commands among them."""
    return [
        module.name
        for package, face in PACKAGES.items()
        for module in pkgutil.walk_packages(face.__path__, f"{package}.")
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_a_face_names_is_there_and_has_an_example(name):
    package, _, own_name = name.partition(".")
    thing = getattr(PACKAGES[package], own_name)
    assert thing.__name__ == own_name
    assert ">>> " in (thing.__doc__ or "")


@pytest.mark.parametrize("name", _modules())
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


def test_a_face_refuses_what_it_does_not_name():
    with pytest.raises(AttributeError, match="'recap_tf' has no attribute 'NoSuch'"):
        recap_tf.NoSuch  # noqa: B018
    with pytest.raises(ImportError, match="NoSuch"):
        from twhin_tf import NoSuch  # noqa: F401


@pytest.mark.parametrize("package", PACKAGES)
def test_a_star_imports_the_face(package):
    names = {}
    exec(f"from {package} import *", names)
    assert set(dir(PACKAGES[package])) <= set(names)


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_waits_for_nothing(package):
    code = (
        f"import sys, {package}; slow = 'tensorflow tf_keras numpy pyarrow gin'.split()"
        f"; assert 'MLP' in dir({package}) or 'Graph' in dir({package})"
        "; print(set(slow) & set(sys.modules))"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout == "set()\n"
