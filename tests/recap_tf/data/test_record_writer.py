"""Serialized examples read back by TensorFlow itself, and files that appear whole."""

import pathlib

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data.record_writer import (
    open_record_files,
    part_paths,
    serialize_examples,
)


def feature_of(record: bytes, name: str = "x") -> list | None:
    """The values of a feature, None if the record lacks it."""
    features = tf.train.Example.FromString(record).features.feature
    if name not in features:
        return None
    kind = features[name].WhichOneof("kind")
    return kind, list(getattr(features[name], kind).value)


@pytest.mark.parametrize(
    "values, kind, expected",
    [
        (np.array([[0.5, -2.0], [np.inf, 3e38]]), "float_list", None),
        (np.array([1.5, 2.5]), "float_list", [[1.5], [2.5]]),
        (np.array([[0, 127], [128, 2**63 - 1]]), "int64_list", None),
        (np.array([[-1], [-(2**63)]]), "int64_list", None),
        (np.array([[True, False], [False, True]]), "int64_list", [[1, 0], [0, 1]]),
        (np.array([[7], [200]], np.uint8), "int64_list", None),
        (np.array([b"a", b"\0bc"], object), "bytes_list", [[b"a"], [b"\0bc"]]),
        (np.array([["a"], ["é"]]), "bytes_list", [[b"a"], ["é".encode()]]),
        ([[1, 300, 5], []], "int64_list", None),
        ([np.array([0.5]), np.array([1.5, 2.5])], "float_list", None),
        ([[b"x" * 200, b""], [b"y"]], "bytes_list", None),
    ],
    ids=[
        *("float matrix", "float vector", "int", "negative int", "bool", "uint8"),
        *("bytes", "str", "lists of int", "lists of float", "lists of bytes"),
    ],
)
def test_values_come_back(values, kind, expected):
    if expected is None:
        expected = [np.asarray(row).tolist() for row in values]
    if kind == "float_list":
        expected = [np.float32(row).tolist() for row in expected]
    records = serialize_examples({"first": np.array([1, 2]), "x": values})
    assert [feature_of(record) for record in records] == [
        (kind, row) for row in expected
    ]
    assert [feature_of(record, "first")[1] for record in records] == [[1], [2]]


def test_missing_values_are_left_out():
    lists = [[1], None, [2, 3]]
    records = serialize_examples(
        {"x": lists, "y": np.ones((3, 2))}, {"y": np.array([True, True, False])}
    )
    assert [feature_of(record, "x") for record in records] == [
        ("int64_list", [1]),
        None,
        ("int64_list", [2, 3]),
    ]
    assert [feature_of(record, "y") is None for record in records] == [
        *(False, False, True)
    ]


def test_a_batch_parses_as_wide_features():
    rng = np.random.default_rng(0)
    floats = rng.normal(size=(5, 300)).astype(np.float32)
    ids = rng.integers(0, 1 << 40, (5, 200))
    parsed = tf.io.parse_example(
        serialize_examples({"floats": floats, "ids": ids}),
        {
            "floats": tf.io.FixedLenFeature([300], tf.float32),
            "ids": tf.io.FixedLenFeature([200], tf.int64),
        },
    )
    np.testing.assert_array_equal(parsed["floats"], floats)
    np.testing.assert_array_equal(parsed["ids"], ids)


def test_unequal_numbers_of_rows_are_refused():
    with pytest.raises(ValueError, match="equally many rows"):
        serialize_examples({"x": np.zeros(2), "y": np.zeros(3)})


def test_other_types_are_refused():
    with pytest.raises(ValueError, match="'x' must hold floats"):
        serialize_examples({"x": np.zeros(2, complex)})


def test_records_go_to_the_files_in_turn(tmp_path):
    paths = part_paths(str(tmp_path / "train"), 2)
    with open_record_files(paths) as output:
        output.write([b"a", b"b"])
        output.write([b"c"])
    assert pathlib.Path(paths[1]).name == "part-00001-of-00002.tfrecord.gz"
    read = [
        [record.numpy() for record in tf.data.TFRecordDataset(path, "GZIP")]
        for path in paths
    ]
    assert read == [[b"a", b"c"], [b"b"]]


def test_nothing_appears_after_an_error(tmp_path):
    with (
        pytest.raises(RuntimeError, match="stop"),
        open_record_files(part_paths(str(tmp_path), 2)) as output,
    ):
        output.write([b"a"])
        raise RuntimeError("stop")
    assert list(tmp_path.iterdir()) == []
