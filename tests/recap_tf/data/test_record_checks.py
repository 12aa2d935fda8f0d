import gzip

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data.record_checks import (
    RecordFault,
    checked_batches,
    first_fault,
    inferred_schema,
)
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature, Schema

SCHEMA = Schema(
    [
        Feature("x", "float_list", 2),
        Feature("ids", "int64_list", -1),
        Feature("label", "int64_list", 1),
    ]
)


def write(path, records, compressed=True):
    options = tf.io.TFRecordOptions(compression_type="GZIP" if compressed else "")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in records:
            writer.write(record)
    return str(path)


def good(count):
    return serialize_examples(
        {
            "x": np.arange(2.0 * count).reshape(-1, 2),
            "ids": [np.arange(i % 3) for i in range(count)],
            "label": np.arange(count) % 2,
        }
    )


def bad(**features):
    (record,) = serialize_examples({k: np.array([v]) for k, v in features.items()})
    return record


@pytest.mark.parametrize("compressed", [True, False])
def test_good_files_have_no_fault(tmp_path, compressed):
    path = write(tmp_path / "a", good(1200), compressed)
    assert first_fault([path], SCHEMA) is None
    batches = list(checked_batches(path, SCHEMA))
    assert [batch.first for batch in batches] == [1, 513, 1025]
    values, splits = batches[0].features["ids"]
    assert values[:3].tolist() == [0, 0, 1] and splits[:4].tolist() == [0, 0, 1, 3]


def test_missing_features_are_no_fault(tmp_path):
    path = write(tmp_path / "a.gz", [bad(label=1)])
    assert first_fault([path], SCHEMA) is None


@pytest.mark.parametrize(
    "record, message",
    [
        (
            bad(x=[1.0, 2.0, 3.0]),
            "record 601: feature 'x' has 3 values, the schema says 2",
        ),
        (bad(x=[1.0]), "record 601: feature 'x' has 1 values, the schema says 2"),
        (
            bad(x=[1, 2]),
            "record 601: feature 'x' is a int64_list, the schema says float_list",
        ),
        (b"\xff\xff\xff", "record 601: it is not a tf.Example"),
    ],
    ids=["too long", "too short", "another type", "no example"],
)
def test_names_the_record_that_disagrees(tmp_path, record, message):
    first = write(tmp_path / "a.gz", good(3))
    second = write(tmp_path / "b.gz", [*good(600), record, *good(5)])
    assert first_fault([first, second], SCHEMA) == f"{second}, {message}"
    assert first_fault([second], SCHEMA, ["label"]) in (None, f"{second}, {message}")


def test_only_the_features_that_are_read_count(tmp_path):
    path = write(tmp_path / "a.gz", [bad(x=[1.0], label=1)])
    assert first_fault([path], SCHEMA, ["label"]) is None


def test_labels_must_be_0_or_1(tmp_path):
    path = write(tmp_path / "a.gz", [*good(3), bad(label=2)])
    assert first_fault([path], SCHEMA, ["x", "label"]) is None
    fault = first_fault([path], SCHEMA, ["x", "label"], labels=["label"])
    assert fault == f"{path}, record 4: label 'label' must be 0 or 1. Received: 2"


def cut_gzip(data):
    return data[: len(data) // 2]


def cut_between_records(data):
    """A gzip stream without an end, whose records are whole."""
    raw = gzip.decompress(data)
    whole = gzip.compress(raw)
    return whole[:-8]


def flipped(data):
    raw = bytearray(gzip.decompress(data))
    raw[len(raw) // 2] ^= 0xFF
    return bytes(raw)


@pytest.mark.parametrize(
    "damage, message",
    [
        (cut_gzip, r"damaged after \d+ records \(truncated record"),
        (cut_between_records, r"damaged after 900 records \(the gzip stream is cut"),
        (flipped, r"damaged after 4\d\d records \(corrupted record"),
        (lambda data: gzip.decompress(data)[:-3], r"damaged after 899 records"),
        (lambda data: gzip.decompress(data) + b"abc", r"after 900 records \(3 bytes"),
        (lambda data: data[:10], r"damaged after 0 records \(the gzip stream is cut"),
        (lambda data: b"", r"damaged after 0 records \(the file is empty"),
    ],
    ids=["gzip cut", "end cut", "flipped", "cut", "rest", "head only", "empty"],
)
def test_damage_says_how_far_the_file_was_read(tmp_path, damage, message):
    path = tmp_path / "a.gz"
    write(path, good(900))
    path.write_bytes(damage(path.read_bytes()))
    seen = 0
    with pytest.raises(RecordFault, match=message) as caught:
        for batch in checked_batches(str(path), SCHEMA):
            seen += batch.count
    assert f"damaged after {seen} records" in str(caught.value)


def test_gzip_files_may_be_joined(tmp_path):
    path = tmp_path / "a.gz"
    write(path, good(5))
    path.write_bytes(path.read_bytes() * 2)
    assert sum(batch.count for batch in checked_batches(str(path), SCHEMA)) == 10


def test_schema_is_inferred(tmp_path):
    path = write(tmp_path / "a.gz", good(20))
    schema = inferred_schema(path)
    assert {name: (f.dtype, f.length) for name, f in schema.items()} == {
        "ids": ("int64_list", -1),
        "label": ("int64_list", 1),
        "x": ("float_list", 2),
    }
