"""The packages' faces, their examples, and what importing a package costs."""

import doctest
import importlib
import os
import pkgutil
import subprocess
import sys

import pytest

import recap_tf
import twhin_tf

NAMES = [(package, name) for package in (recap_tf, twhin_tf) for name in dir(package)]
COMMANDS = [
    *("recap_tf.calibrate", "recap_tf.convert", "recap_tf.engagement_edges"),
    *("recap_tf.evaluate", "recap_tf.export", "recap_tf.inspect"),
    *("recap_tf.join_vectors", "recap_tf.synthetic", "recap_tf.train"),
    *("twhin_tf.evaluate", "twhin_tf.export", "twhin_tf.synthetic"),
    *("twhin_tf.train", "twhin_tf.vocabulary"),
]
# Each takes long to import, and no flag needs it.
SLOW = {"tensorflow", "tf_keras", "pyarrow", "sklearn", "matplotlib", "numpy", "gin"}


def _modules() -> list[str]:
    """Every module of the two packages, commands among them."""
    return [
        module.name
        for package in (recap_tf, twhin_tf)
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}.")
    ]


def _loaded(code: str) -> set[str]:
    """Those of `SLOW` that a process has imported after running `code`."""
    report = "import atexit, sys\natexit.register(lambda: print('|', *sys.modules))\n"
    run = subprocess.run(
        [sys.executable, "-c", report + code],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    names = run.stdout.rpartition("|")[2].split()
    assert "sys" in names, run.stderr
    return SLOW & set(names)


@pytest.mark.parametrize("package, name", NAMES, ids=lambda value: str(value)[:40])
def test_what_a_face_names_is_there_and_has_an_example(package, name):
    thing = getattr(package, name)
    assert thing.__name__ == name
    assert ">>> " in (thing.__doc__ or "")


def test_a_face_refuses_what_it_does_not_name():
    with pytest.raises(AttributeError, match="'recap_tf' has no attribute 'NoSuch'"):
        recap_tf.NoSuch  # noqa: B018
    with pytest.raises(ImportError, match="NoSuch"):
        from twhin_tf import NoSuch  # noqa: F401


@pytest.mark.parametrize("package", [recap_tf, twhin_tf], ids=lambda p: p.__name__)
def test_a_star_imports_the_face(package):
    names = {}
    exec(f"from {package.__name__} import *", names)
    assert set(dir(package)) == set(package.__all__) <= set(names)


@pytest.mark.parametrize("name", _modules())
def test_examples_give_what_they_say(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    assert doctest.testmod(module, optionflags=flags).failed == 0


@pytest.mark.parametrize("package", ["recap_tf", "twhin_tf"])
def test_importing_a_package_imports_nothing_slow(package):
    assert not _loaded(f"import {package}")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_wrong_flags_wait_for_nothing_slow(command):
    for flag in ("--help", "--no-such-flag"):
        code = f"import {command}\n{command}.main(['{flag}'])"
        assert not _loaded(code), flag


@pytest.mark.parametrize("command", COMMANDS)
def test_a_config_that_is_missing_is_said_at_once(command):
    help_text = subprocess.run(
        [sys.executable, "-m", command, "--help"], capture_output=True, text=True
    ).stdout
    if "--config" not in help_text:
        pytest.skip("takes no config")
    flags = ["--config", "no.gin", "--checkpoint", "x", "--out", "y"]
    known = [a for pair in zip(flags[::2], flags[1::2], strict=True) for a in pair]
    arguments = [
        word
        for flag, value in zip(known[::2], known[1::2], strict=True)
        if flag in help_text
        for word in (flag, value)
    ]
    code = (
        "from recap_tf.core.command import UserError\n"
        f"import {command}\n"
        f"try: {command}.main({arguments!r})\n"
        "except UserError as error: assert 'no.gin does not exist' in str(error)\n"
        "else: raise SystemExit('not refused')"
    )
    assert not _loaded(code)


def test_tensorflow_starts_silently():
    run = subprocess.run(
        [sys.executable, "-c", "import recap_tf, tensorflow"],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    )
    assert (run.stdout, run.stderr) == ("", "")
