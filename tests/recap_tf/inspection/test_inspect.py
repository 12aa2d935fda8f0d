import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from recap_tf.convert import main as convert
from recap_tf.core.command import UserError
from recap_tf.data.record_writer import serialize_examples
from recap_tf.data.schema import Feature, write_schema
from recap_tf.inspect import main


def write(path, features):
    options = tf.io.TFRecordOptions(compression_type="GZIP")
    with tf.io.TFRecordWriter(str(path), options) as writer:
        for record in serialize_examples(features):
            writer.write(record)


@pytest.fixture
def folder(tmp_path):
    """A folder of records of a schema, two files and 6 records."""
    write_schema(
        str(tmp_path / "schema.json"),
        [
            Feature("x", "float_list", 2),
            Feature("tags", "int64_list", -1),
            Feature("label", "int64_list", 1),
        ],
    )
    for index in range(2):
        write(
            tmp_path / f"train-0000{index}-of-00002.tfrecord.gz",
            {
                "x": np.array([[0.0, 7.0], [index, 7.0], [4.0, 7.0]]),
                "tags": [[1, 2], None, [3]],
                "label": np.array([1, 0, 0]),
            },
        )
    return tmp_path


@pytest.fixture
def converted(tmp_path):
    path = tmp_path / "log.parquet"
    rows = {"city": ["a", "b", "a"], "age": [1.0, None, 3.0], "click": [1, 0, 0]}
    pq.write_table(pa.table(rows), path)
    out = str(tmp_path / "data")
    convert(
        ["--input", str(path), "--out", out, "--labels", "click", "--min-count", "1"]
    )
    return out


def test_counts_ranges_and_missing_features(folder):
    main([str(folder), "--json", str(folder / "report.json")])
    split = json.loads((folder / "report.json").read_text())["splits"]["train"]
    assert split["files"] == 2 and split["records"] == 6
    assert split["labels"] == {"label": {"positives": 2, "rate": 2 / 6}}
    first, second = split["features"]["x"]["columns"]
    assert first["min"] == 0 and first["max"] == 4 and first["zeros"] == 3
    assert first["mean"] == 9 / 6 and not first["constant"]
    assert second["constant"]
    tags = split["features"]["tags"]
    assert (tags["missing"], tags["shortest"], tags["longest"]) == (2, 1, 2)
    assert tags["columns"][0]["different"] == 3


def test_prints_names_of_columns(converted, capsys):
    main([converted])
    printed = capsys.readouterr().out
    assert "train: 1 files, 3 records" in printed
    assert "age.missing" in printed
    assert "2 of 3 ids" in printed


def test_schema_is_guessed_where_there_is_none(folder, capsys):
    (folder / "schema.json").unlink()
    main([f"{folder}/train-*"])
    assert "taken from the first records" in capsys.readouterr().out


def test_non_finite_values_are_counted_but_no_fault(tmp_path):
    write(tmp_path / "a.gz", {"x": np.array([[1.0], [np.nan], [np.inf]])})
    main([str(tmp_path), "--json", str(tmp_path / "report.json")])
    split = json.loads((tmp_path / "report.json").read_text())["splits"]["a"]
    (column,) = split["features"]["x"]["columns"]
    assert column["not_finite"] == 2 and column["max"] == 1.0


@pytest.mark.parametrize(
    "features, message",
    [
        (
            {"x": np.ones((2, 3)), "label": np.array([0, 1])},
            r"bad-1.gz, record 1: feature 'x' has 3 values, the schema says 2",
        ),
        (
            {"x": np.ones((2, 2)), "tags": [[1], [2]], "label": np.array([0, 3])},
            r"bad-1.gz, record 2: label 'label' must be 0 or 1. Received: 3",
        ),
        ({"x": np.ones((2, 2)), "label": np.array([0, 1])}, "no record holds .*'tags'"),
    ],
    ids=["length", "label", "absent"],
)
def test_refuses_what_training_would_choke_on(folder, features, message):
    write(folder / "bad-1.gz", features)
    schema = f"{folder}/schema.json"
    with pytest.raises(UserError, match=message):
        main([f"{folder}/bad-*", "--labels", "label", "--schema", schema])


def test_every_fault_has_its_line(folder, capsys):
    damaged = folder / "train-00000-of-00002.tfrecord.gz"
    damaged.write_bytes(damaged.read_bytes()[:-20])
    write(folder / "train-00001-of-00002.tfrecord.gz", {"label": np.array([7])})
    with pytest.raises(UserError, match=r"'label' must be 0 or 1\. Received: 7"):
        main([str(folder), "--labels", "label"])
    captured = capsys.readouterr()
    assert "train: 2 files, 3 records" in captured.out
    (line,) = [line for line in captured.err.splitlines() if line.startswith("error: ")]
    assert "00000-of-00002.tfrecord.gz: damaged after 2 records (truncated" in line


def test_ids_outside_the_vocabulary_are_refused(converted):
    path = f"{converted}/train-00000-of-00001.tfrecord.gz"
    write(
        path,
        {
            "continuous": np.ones((2, 1)),
            "binary": np.zeros((2, 1), np.int64),
            "discrete": np.array([[1], [3]]),
            "click": np.array([0, 1]),
        },
    )
    with pytest.raises(UserError, match=r"record 2: id 3 of 'city' .* vocabulary of 3"):
        main([converted])


@pytest.mark.parametrize(
    "target, message",
    [("", "holds no record files"), ("none-*.gz", "matches no file")],
    ids=["folder", "glob"],
)
def test_nothing_there(tmp_path, target, message):
    with pytest.raises(UserError, match=message):
        main([f"{tmp_path}/{target}"])
