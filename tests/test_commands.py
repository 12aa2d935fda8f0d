"""Commands answer --help and refuse mistyped flags before anything slow is imported."""

import inspect
import json
import pathlib
import subprocess
import sys

import pytest

from recap_tf.exporting.variants import VARIANTS
from twhin_tf.synthesis.synthetic_graph import SyntheticGraph

ROOT = pathlib.Path(__file__).parents[1]
SLOW = {"gin", "matplotlib", "pyarrow", "sklearn", "tensorflow", "tf_keras"}
# As `python -m` runs them, and then what that has imported, on the last line.
SCRIPT = """
import json, runpy, sys
_, command, *sys.argv[1:] = sys.argv
try:
    runpy.run_module(command, run_name="__main__", alter_sys=True)
except SystemExit as end:
    print(json.dumps([end.code or 0, sorted(sys.modules)]))
"""
COMMANDS = [
    f"{package}.{path.stem}"
    for package in ("recap_tf", "twhin_tf")
    for path in sorted((ROOT / package).glob("*.py"))
    if "run_command(main)" in path.read_text()
]


def run(command: str, *flags: str) -> tuple[int, str, str, set[str]]:
    """Exit code, stdout, stderr, and which slow packages were imported."""
    ended = subprocess.run(
        [sys.executable, "-c", SCRIPT, command, *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    *out, last = ended.stdout.splitlines()
    code, modules = json.loads(last)
    return code, "\n".join(out), ended.stderr, SLOW & set(modules)


def test_all_commands_are_known():
    assert len(COMMANDS) == 14


@pytest.mark.parametrize("command", COMMANDS)
def test_help_waits_for_nothing(command):
    code, out, _, slow = run(command, "--help")
    assert code == 0 and out.startswith(f"usage: python -m {command} ")
    assert not slow


@pytest.mark.parametrize("command", COMMANDS)
def test_an_unknown_flag_is_refused_at_once(command):
    code, _, error, slow = run(command, "--no-such-flag")
    assert code == 2 and "error: " in error.splitlines()[-1]
    assert not slow


@pytest.mark.parametrize(
    "command, flags, message",
    [
        ("recap_tf.calibrate", ["--checkpoint=x"], ""),
        ("recap_tf.evaluate", ["--checkpoint=x"], ""),
        ("recap_tf.export", ["--checkpoint=x", "--out=y"], ""),
        ("recap_tf.synthetic", [], ""),
        ("recap_tf.train", [], ""),
        ("twhin_tf.evaluate", ["--checkpoint=x"], ""),
        ("twhin_tf.export", ["--checkpoint=x", "--out=y"], ""),
        ("twhin_tf.train", [], ""),
        (
            "recap_tf.evaluate",
            ["--checkpoint=x", "--timeout=3"],
            "--timeout is for --follow alone.",
        ),
    ],
)
def test_a_missing_config_is_refused_at_once(command, flags, message):
    code, _, error, slow = run(command, *flags, "--config", "no/such.gin")
    message = message or "The config file no/such.gin does not exist."
    assert code == 2 and error == f"error: {message}\n"
    assert not slow


@pytest.mark.parametrize(
    "command, flags, message",
    [
        (
            "recap_tf.convert",
            ["--input=x"],
            "--labels and --out must be given (or --schema).",
        ),
        (
            "recap_tf.engagement_edges",
            [*("--input=x", "--labels=l", "--out=y"), "--nodes=user"],
            "--nodes takes two columns, HEAD,TAIL. Received: 'user'",
        ),
        (
            "twhin_tf.synthetic",
            ["--out=x", "--nodes=user=3"],
            "--nodes and --relations must be given together.",
        ),
        (
            "twhin_tf.vocabulary",
            ["--edges=x", "--out=y", "--split=1", "--test=z"],
            "--split and --test exclude each other.",
        ),
    ],
)
def test_flags_that_exclude_each_other_are_refused_at_once(command, flags, message):
    code, _, error, slow = run(command, *flags)
    assert code == 2 and error == f"error: {message}\n"
    assert not slow


def test_help_tells_what_the_slow_modules_have():
    """The flags cannot take it from there."""
    _, out, _, _ = run("recap_tf.export", "--help")
    assert f"--variant {{{','.join(VARIANTS)}}}" in out
    _, out, _, _ = run("twhin_tf.synthetic", "--help")
    defaults = inspect.signature(SyntheticGraph).parameters
    assert f"how many ({defaults['communities'].default})" in out
    assert f"power law ({defaults['exponent'].default})" in out
    shares = ",".join(map(str, defaults["held_out"].default))
    assert f"({shares})" in out
