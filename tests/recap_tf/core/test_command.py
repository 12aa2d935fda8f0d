"""How commands end."""

import errno
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError, user_message
from recap_tf.model.small_embeddings import SmallEmbeddings


def _caught(call) -> Exception:
    try:
        call()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


def _library_bug():
    np.zeros(2).reshape(3)


def _no_space():
    raise OSError(errno.ENOSPC, "No space left on device", "/data/x")


def _in_graph():
    def check():
        raise UserError("no such vocabulary")

    tf.function(check)()


TABLES = {"city": {"column": 4, "num_embeddings": 5, "embedding_dim": 2}}


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: SmallEmbeddings(), "SmallEmbeddings needs exactly one of tables and"),
        (
            lambda: tf.function(SmallEmbeddings(tables=TABLES))(np.zeros((1, 1), int)),
            "Embedding table 'city' reads column 4 of `discrete`",
        ),
        (_in_graph, "no such vocabulary"),
        (_no_space, "/data/x: the disk is full"),
        (lambda: os.stat("/nowhere/x"), "/nowhere/x: No such file or directory"),
    ],
    ids=["a check", "a check in a graph", "another one", "full disk", "no file"],
)
def test_a_users_mistake_is_one_line(call, message):
    line = user_message(_caught(call))
    assert line.startswith(message) and "\n" not in line


def test_a_bug_keeps_its_traceback():
    assert user_message(_caught(_library_bug)) is None


SCRIPT = """
import sys, time
from recap_tf.core.command import UserError, run_command
def mistake(argv): raise UserError("--out is missing.")
def bug(argv): {}["x"]
def wait(argv):
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally: print("cleaned", flush=True)
sys.exit(run_command({"mistake": mistake, "bug": bug, "wait": wait}[sys.argv[1]]))
"""


@pytest.mark.parametrize(
    "kind, code, last_line",
    [("mistake", 2, "error: --out is missing."), ("bug", 1, "KeyError: 'x'")],
)
def test_exit_codes(kind, code, last_line):
    result = subprocess.run(
        [sys.executable, "-c", SCRIPT, kind], capture_output=True, text=True
    )
    assert result.returncode == code
    assert result.stderr.strip().splitlines()[-1] == last_line


def test_sigterm_cleans_up():
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, "wait"], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    assert process.stdout.read() == "cleaned\n"
    assert process.wait() == 130


def test_user_errors_are_value_errors():
    with pytest.raises(ValueError, match="as a check"):
        raise UserError("as a check")
