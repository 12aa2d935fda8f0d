"""Large variables end up in pages of 2 MiB."""

import pathlib
import re
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.storage.huge_pages import use_huge_pages

SETTING = pathlib.Path("/sys/kernel/mm/transparent_hugepage/enabled")
OFFERED = SETTING.exists() and "[never]" not in SETTING.read_text()

TABLE_AND_STATE = """
import pathlib, re
import recap_tf
import tensorflow as tf
import tf_keras as keras
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
from recap_tf.core.storage.sharded_tables import make_table

def print_huge_kilobytes():
    text = pathlib.Path("/proc/self/smaps_rollup").read_text()
    print(re.search(r"AnonHugePages: +([0-9]+)", text)[1])

print_huge_kilobytes()
table = make_table(keras.initializers.Zeros(), (1 << 18, 64), tf.float32, "ids")
print_huge_kilobytes()
GroupedOptimizer({"ids": (SparseAdagrad(0.1), [table])}).create_slots()
print_huge_kilobytes()
"""


def huge_bytes(variable: tf.Variable) -> int:
    """In huge pages, of the mapping that holds the variable."""
    memory = np.frombuffer(memoryview(variable.read_value()), np.uint8)
    middle, inside = memory.ctypes.data + memory.nbytes // 2, False
    for line in pathlib.Path("/proc/self/smaps").read_text().splitlines():
        if found := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
            inside = int(found[1], 16) <= middle < int(found[2], 16)
        elif inside and line.startswith("AnonHugePages:"):
            return int(line.split()[1]) << 10
    raise AssertionError("no mapping holds the variable")


@pytest.mark.skipif(not OFFERED, reason="the system has no huge pages")
def test_a_large_variable_is_moved_into_huge_pages():
    values = np.arange(20 << 20, dtype=np.float32).reshape(-1, 64)
    large = tf.Variable(values)
    before = huge_bytes(large)
    use_huge_pages(large)
    assert huge_bytes(large) >= max(before, 70 << 20)
    np.testing.assert_array_equal(large, values)


@pytest.mark.skipif(not OFFERED, reason="the system has no huge pages")
def test_tables_and_what_optimizers_keep_of_them_are():
    # In a process of its own, all of whose huge pages are theirs.
    done = subprocess.run(
        [sys.executable, "-c", TABLE_AND_STATE], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    before, with_table, with_state = map(int, done.stdout.split())
    assert with_table - before >= 50 << 10
    assert with_state - with_table >= 50 << 10


@pytest.mark.parametrize(
    "values", [tf.zeros([8, 4]), tf.zeros([1 << 20, 64], tf.bfloat16)]
)
def test_other_variables_stay_as_they_are(values):
    variable = tf.Variable(values)
    use_huge_pages(variable)
    variable.scatter_nd_add([[1]], tf.ones([1, values.shape[1]], values.dtype))
    assert float(tf.reduce_sum(tf.cast(variable, tf.float32))) == values.shape[1]


def test_nothing_happens_in_a_graph():
    variable = tf.Variable(tf.zeros([1 << 18, 64]))

    @tf.function
    def advise():
        use_huge_pages(variable)
        return tf.reduce_sum(variable[0])

    assert float(advise()) == 0
