"""How commands start and end: help and mistakes at once, mistakes in one line."""

import os
import subprocess
import sys

import pytest
import tensorflow as tf
from served import ROOT

from serving.command import UserError, run_command
from serving.errors import ServingError
from serving.status_codes import Code

HEAVY = {"tensorflow", "numpy", "pyarrow", "matplotlib"}
COMMANDS = {
    "server": ["--model_base_path=/x", "--port=-1"],
    "score": ["--model=m", "--examples=a", "--out=b", "--batch=0"],
    "loadtest": ["--model=m"],
    "compare": ["--left=grpc://a", "--right=logged", "--requests=a"],
    "deploy": ["--out=a", "--name=Q"],
}
"""Command -> a command line that it refuses."""


def _run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )


def _imports(command: str, *arguments: str) -> tuple[subprocess.CompletedProcess, set]:
    """The process of a command, and the packages that it imported."""
    done = _run("-X", "importtime", "-m", f"serving.{command}", *arguments)
    lines = [line for line in done.stderr.splitlines() if line.startswith("import ti")]
    packages = {line.rpartition("|")[2].strip().split(".")[0] for line in lines}
    assert {"argparse", "serving"} <= packages
    return done, packages


@pytest.mark.parametrize("command", COMMANDS)
def test_help_does_not_wait_for_tensorflow(command):
    done, packages = _imports(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"usage: python -m serving.{command} ")
    assert not packages & HEAVY


@pytest.mark.parametrize("command", COMMANDS)
def test_a_wrong_argument_does_not_wait_for_tensorflow(command):
    for arguments in (COMMANDS[command], ["--nonsense"]):
        done, packages = _imports(command, *arguments)
        assert done.returncode == 2
        assert "error: " in done.stderr.splitlines()[-1]
        assert not packages & HEAVY


def _raising(error: BaseException):
    def main(_) -> int:
        raise error

    return main


@pytest.mark.parametrize(
    "error, line",
    [
        (UserError("No such thing."), "No such thing."),
        (ServingError(Code.NOT_FOUND, "no model"), "no model"),
        (FileNotFoundError(2, "No such file", "/x"), "[Errno 2] No such file: '/x'"),
        (tf.errors.DataLossError(None, None, "cut off\nat 7"), "cut off"),
        (OSError(), "OSError"),
    ],
    ids=["user", "server", "file", "TensorFlow", "without a text"],
)
def test_a_mistake_is_one_line(capsys, error, line):
    assert run_command(_raising(error)) == 2
    assert capsys.readouterr().err == f"error: {line}\n"


def test_a_defect_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        run_command(_raising(ZeroDivisionError()))


def test_an_interrupt_is_said(capsys):
    assert run_command(_raising(KeyboardInterrupt())) == 130
    assert capsys.readouterr().err == "\nInterrupted.\n"


_FAULTS = """
import resource, sys
from serving.command import run_command

def main(_):
    bytearray(40 << 20)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(10):
        bytearray(b"x") * (40 << 20)
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

run_command(main)
"""


def test_commands_use_freed_memory_again():
    done = _run("-c", _FAULTS)
    # Each of the ten has ten thousand pages.
    assert int(done.stdout) < 30_000, done.stderr
