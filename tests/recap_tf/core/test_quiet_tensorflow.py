"""Whoever imports TensorFlow first after recap_tf sees none of its chatter."""

import os
import subprocess
import sys

import pytest

# A TensorFlow that chatters, in Python and as C++ code does, and its next of kin.
CHATTER = """
import os, sys
print("chatter", file=sys.stderr)
os.write(2, b"C++ chatter")
class config:
    @staticmethod
    def list_physical_devices(): os.write(2, b"drivers' chatter")
"""


def imported(
    folder, script: str, tensorflow: str = CHATTER
) -> subprocess.CompletedProcess:
    (folder / "tensorflow.py").write_text(tensorflow)
    path = os.pathsep.join([str(folder), os.getcwd()])
    return subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    "script",
    [
        "import recap_tf, tensorflow",
        "import recap_tf.core.model_versions",
        "import twhin_tf, tensorflow",
        # As packages do that can use TensorFlow, and can do without.
        "import recap_tf, importlib.util\n"
        "assert importlib.util.find_spec('tensorflow')\n"
        "assert importlib.util.find_spec('tensorflow')\n"
        "import tensorflow",
    ],
)
def test_the_first_import_is_silent_and_what_follows_is_not(tmp_path, script):
    after = (
        "\nimport os, sys; assert 'tensorflow' in sys.modules; os.write(2, b'after')"
    )
    ended = imported(tmp_path, script + after)
    assert (ended.returncode, ended.stderr) == (0, "after")


def test_keras_2_is_chosen_before_tensorflow_is_imported(tmp_path):
    script = """
import os, recap_tf, sys
assert "tensorflow" not in sys.modules
assert os.environ["TF_USE_LEGACY_KERAS"] == "1"
"""
    assert imported(tmp_path, script).returncode == 0


def test_a_failure_is_seen(tmp_path):
    failing = CHATTER + "raise ImportError('libcuda.so is missing')\n"
    ended = imported(tmp_path, "import recap_tf, tensorflow", failing)
    assert ended.returncode == 1
    assert ended.stderr.splitlines()[-1] == "ImportError: libcuda.so is missing"


def test_tensorflow_may_be_there_already(tmp_path):
    ended = imported(tmp_path, "import tensorflow, recap_tf, sys; print(sys.meta_path)")
    assert ended.returncode == 0
    assert "_TensorFlowFinder" not in ended.stdout
