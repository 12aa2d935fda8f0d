"""Partitions go to files and come back into memory, bit by bit."""

import numpy as np
import pytest
import tensorflow as tf
from partitioned_graphs import make_graph

from recap_tf.core.command import UserError
from twhin_tf.partitions import partition_buffer, partition_files
from twhin_tf.partitions.partition_buffer import VECTOR, PartitionBuffer
from twhin_tf.partitions.partition_files import PartitionFiles, RowFormat
from twhin_tf.partitions.partition_layout import Layout

NORMAL = {"class_name": "RandomNormal", "config": {"stddev": 1.0, "seed": 3}}


def make_files(folder, storage="float32", count=3, initializer=NORMAL):
    layout = Layout(make_graph(), count, 2, frozenset())
    state = {"accumulator": (2, 0.5), "seen": (0, 0.0)}
    row_format = RowFormat(2, storage, state, initializer)
    formats = {"user": row_format, "item": row_format}
    return PartitionFiles(str(folder), layout, formats, seed=1)


def make_buffer(files):
    variables = {}
    for name in files.formats:
        rows, storage = files.layout.in_memory().rows[name], files.formats[name].storage
        variables[name] = {
            VECTOR: tf.Variable(tf.zeros([rows, 2], storage)),
            "accumulator": tf.Variable(tf.zeros([rows, 2])),
            "seen": tf.Variable(tf.zeros([rows])),
        }
    return PartitionBuffer(files, variables), variables


@pytest.fixture(params=[100, 3])
def chunk(request, monkeypatch):
    """Reads, writes or draws all rows of a partition at once, or fewer."""
    for module in (partition_files, partition_buffer):
        monkeypatch.setattr(module, "CHUNK", request.param)


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_what_is_swapped_out_comes_back_elsewhere(tmp_path, storage, chunk):
    buffer, variables = make_buffer(make_files(tmp_path, storage))
    buffer.fill([0, 1])
    for variable in variables["user"].values():
        numbers = np.arange(variable.shape.num_elements()).reshape(variable.shape)
        variable.assign(tf.cast(numbers, variable.dtype))
    buffer.touch()
    buffer.change([2, 1])
    buffer.change([2, 0])
    user = variables["user"]
    # Partition 0 was in rows 0 to 3, and is in 4 to 7.
    expected = np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(tf.cast(user[VECTOR][4:], tf.float32), expected)
    np.testing.assert_array_equal(user["accumulator"][4:], expected)
    np.testing.assert_array_equal(user["seen"][4:], [0, 1, 2, 3])
    # Partition 2, never there before, is as it starts.
    np.testing.assert_array_equal(user["accumulator"][:3], np.full((3, 2), 0.5))
    assert buffer.swaps == 2


def test_rows_start_otherwise_everywhere_and_the_same_every_time(tmp_path, chunk):
    files, again = make_files(tmp_path), make_files(tmp_path)
    other = {"class_name": "RandomNormal", "config": {"stddev": 1.0, "seed": 4}}
    drawn = [
        drawn_files.vectors(name, partition, np.arange(4 if name == "user" else 3))
        for drawn_files in (files, make_files(tmp_path, initializer=other))
        for name in ("user", "item")
        for partition in range(3)
    ]
    assert len(np.unique(np.concatenate(drawn))) == 2 * (3 * 4 + 3 * 3) * 2
    np.testing.assert_array_equal(
        again.vectors("user", 2, np.array([1])), drawn[2][1:2]
    )


def test_the_last_row_of_a_shorter_partition_is_kept(tmp_path):
    # It is no node's, but a negative like any other: a run that goes on needs it.
    files = make_files(tmp_path)
    buffer, variables = make_buffer(files)
    buffer.fill([1, 2])
    # 10 users, 4 of them in partition 0: row 3 of partition 2 would be user 11.
    variables["user"][VECTOR].assign(tf.fill([8, 2], 5.0))
    buffer.touch()
    buffer.flush()
    again, others = make_buffer(files)
    again.fill([2, 0])
    np.testing.assert_array_equal(others["user"][VECTOR][3], [5.0, 5.0])
    files.check_complete("user")


def test_old_versions_stay_as_long_as_something_refers_to_them(tmp_path):
    files = make_files(tmp_path)
    buffer, variables = make_buffer(files)
    buffer.fill([0, 1])
    buffer.touch()
    buffer.flush()
    first = {name: list(numbers) for name, numbers in files.versions.items()}
    before = files.vectors("user", 0, np.arange(4))
    variables["user"][VECTOR].assign(tf.ones([8, 2]))
    buffer.touch()
    buffer.flush()
    files.remove_all_but([first])
    assert len(list(tmp_path.glob("user/*.bin"))) == 4
    np.testing.assert_array_equal(
        files.vectors("user", 0, np.arange(4)), np.ones((4, 2))
    )
    files.go_on_from(first)
    np.testing.assert_array_equal(files.vectors("user", 0, np.arange(4)), before)
    # What is written next is no version that something refers to.
    buffer.touch()
    buffer.flush()
    files.go_on_from(first)
    np.testing.assert_array_equal(files.vectors("user", 0, np.arange(4)), before)
    files.remove_all_but([])
    assert len(list(tmp_path.glob("user/*.bin"))) == 2
    next(tmp_path.glob("user/*.bin")).unlink()
    with pytest.raises(UserError, match=r"rows of type 'user', .* Received: no file"):
        files.check_complete("user")


def test_other_machines_and_initializers_that_count_rows_are_refused(tmp_path):
    with pytest.raises(
        UserError, match=r"folder must be on this.*Received: 'gs://b/a'"
    ):
        make_files("gs://b/a")
    with pytest.raises(UserError, match=r"type 'user' must not go by.*glorot_uniform"):
        make_files(tmp_path, initializer="glorot_uniform")
