"""Vectors in ranker records: by ids in records, and by columns in the same pass."""

import json

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from recap_tf import convert, engagement_edges, join_vectors
from recap_tf.core.command import UserError
from recap_tf.core.row_files import open_table, write_parquet
from recap_tf.data.record_writer import open_record_files, serialize_examples
from recap_tf.data.schema import Feature, read_schema, write_schema

WIDTH = 3


def write_vectors(path, entities):
    """Entity number i has the vector [i, i, i]."""
    rows = [[float(number)] * WIDTH for number in range(1, len(entities) + 1)]
    column = pa.array(rows, pa.list_(pa.float32()))
    write_parquet(str(path), pa.table({"entity": entities, "vector": column}))


@pytest.fixture
def records(tmp_path):
    """Two files of records with users 10 and 20 and 30, authors a and b and one not."""
    folder = tmp_path / "records"
    features = [
        Feature("meta.user_id", "int64_list", 1),
        Feature("author", "bytes_list", 1),
        Feature("x", "float_list", 2),
    ]
    write_schema(str(folder / "schema.json"), features)
    for number, users in enumerate(([10, 20], [30, 20])):
        values = {
            "meta.user_id": np.array(users),
            "author": [b"b", None if number else b"c"],
            "x": np.arange(4.0).reshape(2, 2),
        }
        path = str(folder / f"part-{number}.gz")
        with open_record_files([path]) as output:
            output.write(serialize_examples(values))
    write_vectors(tmp_path / "user.parquet", [20, 10])
    # The last is no vector for records that have no author.
    write_vectors(tmp_path / "author.parquet", ["a", "b", ""])
    return tmp_path


def read_records(folder, spec):
    paths = sorted(str(path) for path in folder.glob("part-*"))
    dataset = tf.data.TFRecordDataset(paths, "GZIP").batch(100)
    return tf.io.parse_example(next(iter(dataset)), spec)


def run_join(folder, *vectors, out="joined"):
    arguments = ["--records", str(folder / "records" / "part-*")]
    arguments += ["--schema", str(folder / "records" / "schema.json")]
    for one in vectors:
        arguments += ["--vectors", one]
    join_vectors.main([*arguments, "--out", str(folder / out)])


def test_vectors_are_joined_to_records_by_their_ids(records, capsys):
    run_join(
        records,
        f"user_embedding={records}/user.parquet:meta.user_id",
        f"author_embedding={records}/author.parquet:author",
    )
    spec = {
        name: tf.io.FixedLenFeature([WIDTH], tf.float32)
        for name in ("user_embedding", "author_embedding")
    }
    spec["x"] = tf.io.FixedLenFeature([2], tf.float32)
    found = read_records(records / "joined", spec)
    # User 20 came first in the file, user 30 not at all.
    assert found["user_embedding"][:, 0].numpy().tolist() == [2, 1, 0, 1]
    assert found["author_embedding"][:, 2].numpy().tolist() == [2, 0, 2, 0]
    assert found["x"].numpy().tolist() == [[0, 1], [2, 3]] * 2
    schema = read_schema(str(records / "joined" / "schema.json"))
    assert schema["user_embedding"].length == WIDTH and "x" in schema
    printed = capsys.readouterr().out
    assert "user_embedding: 75.00% of 4 records have one" in printed
    assert "author_embedding: 50.00% of 4 records" in printed


def test_a_second_join_replaces_the_vectors_of_the_first(records):
    run_join(records, f"user_embedding={records}/user.parquet:meta.user_id")
    (records / "joined").rename(records / "records2")
    write_vectors(records / "user.parquet", [30, 20, 10])
    join_vectors.main(
        [
            "--records",
            f"{records}/records2/part-*",
            "--schema",
            f"{records}/records2/schema.json",
            "--vectors",
            f"user_embedding={records}/user.parquet:meta.user_id",
            "--out",
            f"{records}/joined",
        ]
    )
    spec = {"user_embedding": tf.io.FixedLenFeature([WIDTH], tf.float32)}
    found = read_records(records / "joined", spec)["user_embedding"]
    assert found[:, 1].numpy().tolist() == [3, 2, 1, 2]
    # As a whole message, not only for TensorFlow's own parser.
    path = str(records / "joined" / "part-0.gz")
    record = next(iter(tf.data.TFRecordDataset(path, "GZIP"))).numpy()
    example = tf.train.Example.FromString(record)
    assert list(example.features.feature["user_embedding"].float_list.value) == [3] * 3


@pytest.mark.parametrize(
    "vectors, message",
    [
        ("user_embedding", "takes FEATURE=FILE:ID_FEATURE. Received: 'user_embedding'"),
        ("e={}/author.parquet:meta.user_id", "must be one value of a bytes_list"),
        ("e={}/user.parquet:x", "Received: float_list of length 2"),
        ("e={}/user.parquet:nobody", "Feature 'nobody' is not in the schema"),
        ("x={}/user.parquet:meta.user_id", "has vectors of 3 numbers"),
        ("e={}/twice.parquet:meta.user_id", "holds entity 7 more than once"),
        ("e={}/none.parquet:meta.user_id", "none.parquet does not exist"),
        ("e={}/null.parquet:meta.user_id", "null.parquet, row 2: no `entity`"),
        ("e={}/hole.parquet:meta.user_id", "hole.parquet must hold whole vectors"),
    ],
)
def test_what_cannot_be_joined_is_said_in_one_line(records, vectors, message):
    write_vectors(records / "twice.parquet", [7, 8, 7])
    write_vectors(records / "null.parquet", [7, None, 9])
    hole = {"entity": [7, 8], "vector": [[1.0, 2.0], [None, 1.0]]}
    write_parquet(str(records / "hole.parquet"), pa.table(hole))
    with pytest.raises(ValueError, match=message):
        run_join(records, vectors.format(records))
    assert not list(records.glob("joined/part-*"))


def test_a_join_does_not_write_over_what_it_reads(records):
    with pytest.raises(UserError, match="--out must be another folder"):
        vectors = f"e={records}/user.parquet:meta.user_id"
        run_join(records, vectors, out="records")


@pytest.fixture
def log(tmp_path):
    """Ten impressions; the last two are of the validation time."""
    rows = {
        "user_id": [1, 2, 3, 1, 2, 3, 1, 2, 3, 4],
        "item": ["a", "b", "c", "b", "c", None, "c", "a", "d", "a"],
        "rating": [5, 1, 4, 2, 5, 5, 4, 1, 5, 5],
        "time": list(range(10)),
    }
    write_parquet(str(tmp_path / "log.parquet"), pa.table(rows))
    return tmp_path


def test_convert_joins_vectors_in_the_same_pass(log, capsys):
    write_vectors(log / "user.parquet", [2, 1])
    write_vectors(log / "item.parquet", ["a", "c"])
    common = ["--input", f"{log}/log.parquet"]
    convert.main(
        [
            *common,
            "--out",
            f"{log}/data",
            "--labels",
            "like:rating>=4",
            "--vectors",
            f"user_embedding={log}/user.parquet:user_id",
            "--vectors",
            f"author_embedding={log}/item.parquet:item",
            "--validation-share",
            "0.2",
            "--exclude",
            "time",
            "--min-count",
            "1",
        ]
    )
    printed = capsys.readouterr().out
    assert "user_embedding: 75.00% of the rows have one" in printed
    assert "author_embedding: 62.50% of the rows have one" in printed
    # The rows kept for validation, users 3 and 4, items d and a.
    assert "user_embedding: 0.00% of the rows have one" in printed
    assert "author_embedding: 50.00% of the rows have one" in printed
    spec = {
        name: tf.io.FixedLenFeature([WIDTH], tf.float32)
        for name in ("user_embedding", "author_embedding")
    }
    path = next((log / "data").glob("train-*"))
    dataset = tf.data.TFRecordDataset(str(path), "GZIP").batch(10)
    found = tf.io.parse_example(next(iter(dataset)), spec)
    assert found["user_embedding"][:, 0].numpy().tolist() == [2, 1, 0, 2, 1, 0, 2, 1]
    assert found["author_embedding"][:, 0].numpy().tolist() == [1, 0, 2, 0, 2, 0, 2, 1]
    # A later file finds the tables through the schema.
    convert.main(
        [*common, "--schema", f"{log}/data/schema.json", "--split-name", "all"]
    )
    assert "user_embedding: 60.00% of the rows have one" in capsys.readouterr().out


@pytest.mark.parametrize(
    "vectors, message",
    [
        (["user_embedding"], "--vectors takes NAME=FILE:KEY"),
        (["nobody={}/user.parquet:user_id"], "the ranker knows the embeddings"),
        (["user_embedding={}/user.parquet:nobody"], "has no column 'nobody'"),
        (["user_embedding={}/log.parquet:user_id"], "has no column 'entity'"),
        (["user_embedding={}/user.parquet:user_id"] * 2, "gives each name once"),
    ],
)
def test_convert_refuses_vectors_it_cannot_join(log, vectors, message):
    write_vectors(log / "user.parquet", [2, 1])
    arguments = ["--input", f"{log}/log.parquet", "--out", f"{log}/data"]
    arguments += ["--labels", "like:rating>=4"]
    for one in vectors:
        arguments += ["--vectors", one.format(log)]
    with pytest.raises(UserError, match=message):
        convert.main(arguments)


def edges_of(path):
    return open_table(str(path)).read().to_pylist()


@pytest.mark.parametrize(
    "flags", [("--validation-share", "0.2"), ("--where", "time<8")]
)
def test_a_graph_holds_nothing_of_the_time_after_its_training_rows(log, flags, capsys):
    path = log / "edges.parquet"
    engagement_edges.main(
        [
            "--input",
            f"{log}/log.parquet",
            "--out",
            str(path),
            "--labels",
            "like:rating>=4,love:rating==5",
            "--nodes",
            "user_id,item",
            *flags,
        ]
    )
    edges = {(e["head"], e["relation"], e["tail"]) for e in edges_of(path)}
    # Rows 0, 2, 4 and 6; row 5 has no item, rows 8 and 9 are too late.
    likes = {(1, "a"), (3, "c"), (2, "c"), (1, "c")}
    assert edges == {(u, "like", i) for u, i in likes} | {
        (1, "love", "a"),
        (2, "love", "c"),
    }
    assert 4 not in {head for head, _, _ in edges}
    assert "d" not in {tail for _, _, tail in edges}
    assert "like: 4 edges\nlove: 2 edges" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, message",
    [
        ({"--nodes": "user_id"}, "--nodes takes two columns, HEAD,TAIL"),
        ({"--nodes": "user_id,nobody"}, "has no column 'nobody'"),
        ({"--labels": "like:rating>9"}, "none of them holds in any of the 10 rows"),
        ({"--validation-share": "1"}, r"must be in \[0, 1\)\. Received: 1\.0"),
    ],
)
def test_what_makes_no_edges_is_said_in_one_line(log, change, message):
    flags = {
        "--input": f"{log}/log.parquet",
        "--out": f"{log}/edges.parquet",
        "--labels": "like:rating>=4",
        "--nodes": "user_id,item",
    }
    with pytest.raises(UserError, match=message):
        engagement_edges.main([x for pair in (flags | change).items() for x in pair])
    assert not (log / "edges.parquet").exists()


def test_joined_columns_are_remembered_as_such(log):
    write_vectors(log / "user.parquet", [2, 1])
    convert.main(
        [
            "--input",
            f"{log}/log.parquet",
            "--out",
            f"{log}/data",
            "--labels",
            "like:rating>=4",
            "--vectors",
            f"user_embedding={log}/user.parquet:user_id",
        ]
    )
    columns = json.loads((log / "data" / "columns.json").read_text())
    assert columns["embeddings"][0]["width"] == WIDTH
    assert columns["joins"][0]["vector_name"] == "user_embedding"
    assert "user_embedding" in (log / "data" / "ranker.gin").read_text()
