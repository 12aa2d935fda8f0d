"""Vocabularies and snapshots: what they give, and what is wrong with them."""

import json
import pathlib
import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.embeddings.vocabulary import (
    VocabularyRows,
    fingerprint,
    load_snapshot,
    read_vocabulary,
)
from recap_tf.core.training import checkpoints


def _vocabulary(folder, entities, rows) -> str:
    path = str(folder / "vocabulary.parquet")
    pyarrow.parquet.write_table(pa.table({"entity": entities, "row": rows}), path)
    return path


def _snapshot(folder, **arrays) -> str:
    path = str(folder / "snapshot.npz")
    np.savez(path, **arrays)
    return path


def _vectors(n: int, dim: int = 2) -> np.ndarray:
    return np.arange(1, n * dim + 1, dtype=np.float32).reshape(n, dim)


def _table(rows: int, dim: int = 2) -> tf.Variable:
    return tf.Variable(tf.zeros([rows, dim]), name="users")


@pytest.mark.parametrize(
    "entities, ids, expected",
    [
        ([30, 10, 20], [10, 30, 99], [0, 2, 4]),
        (["c", "a", "b"], ["a", "c", "?"], [0, 2, 4]),
    ],
    ids=["integers", "text"],
)
def test_ids_find_their_rows_and_unseen_ones_the_last(
    tmp_path, entities, ids, expected
):
    finder = VocabularyRows("users", 4, _vocabulary(tmp_path, entities, [2, 0, 1]))
    finder.build(None)
    ids = tf.constant(ids) if isinstance(ids[0], str) else tf.constant(ids, tf.int64)
    assert finder({"id": ids})["id"].numpy().tolist() == expected


@pytest.mark.parametrize(
    "entities, rows, message",
    [
        ([1, 2, 1], [0, 1, 2], "holds entity 1 more than once"),
        (["x", "y", "x"], [0, 1, 2], "holds entity 'x' more than once"),
        ([1, 2, 3], [0, 1, 1], "holds row 1 more than once"),
        ([1, 2, 3], [0, 1, 3], "must give rows from 0 to 2. Received: 3"),
        ([1, 2, 3], [0, -1, 1], "must give rows from 0 to 2. Received: -1"),
        ([1, None, 3], [0, 1, 2], "has missing values in 'entity'"),
        ([1.5, 2.0, 3.0], [0, 1, 2], "must be integers or text. It is number"),
    ],
)
def test_a_vocabulary_that_is_wrong(tmp_path, entities, rows, message):
    path = _vocabulary(tmp_path, entities, rows)
    with pytest.raises(UserError, match=message) as caught:
        read_vocabulary(path, 3)
    assert path in str(caught.value)


def test_a_vocabulary_without_rows_column(tmp_path):
    path = str(tmp_path / "vocabulary.parquet")
    pyarrow.parquet.write_table(pa.table({"entity": [1], "rows": [0]}), path)
    with pytest.raises(UserError, match=r"no column 'row'. Nearest: 'rows'"):
        read_vocabulary(path, 3)
    with pytest.raises(UserError, match=r"nowhere.parquet does not exist"):
        read_vocabulary(str(tmp_path / "nowhere.parquet"), 3)


def test_a_feature_of_another_type_than_the_vocabulary(tmp_path):
    path = _vocabulary(tmp_path, ["a", "b"], [0, 1])
    finder = VocabularyRows("users", 2, path)
    finder.build(None)
    with pytest.raises(ValueError, match="holds strings, but feature 'id' integers"):
        finder({"id": tf.constant([1], tf.int64)})


def test_row_ordered_vectors_fill_the_table(tmp_path):
    table = _table(4)
    share = load_snapshot(_snapshot(tmp_path, vector=_vectors(3)), table, 3, None)
    assert share == 1.0
    np.testing.assert_array_equal(table.numpy(), [[1, 2], [3, 4], [5, 6], [0, 0]])


@pytest.mark.parametrize("form", ["npz", "parquet"])
@pytest.mark.parametrize("kind", ["integers", "text"])
def test_vectors_of_entities_go_through_the_vocabulary(tmp_path, form, kind):
    known, stored = [30, 10, 20, 40], [10, 99, 30]
    if kind == "text":
        known, stored = [f"u{n}" for n in known], [f"u{n}" for n in stored]
    vocabulary = _vocabulary(tmp_path, known, [2, 0, 1, 3])
    if form == "npz":
        path = _snapshot(tmp_path, entity=np.array(stored), vector=_vectors(3))
    else:
        path = str(tmp_path / "snapshot.parquet")
        rows = {"entity": stored, "vector": _vectors(3).tolist()}
        pyarrow.parquet.write_table(pa.table(rows), path)
    table = _table(5)
    assert load_snapshot(path, table, 4, vocabulary) == 0.5
    expected = [[1, 2], [0, 0], [5, 6], [0, 0], [0, 0]]
    np.testing.assert_array_equal(table.numpy(), expected)


def test_snapshots_larger_than_a_chunk(tmp_path):
    rows = 70_000
    vectors = np.random.default_rng(0).normal(size=(rows, 1)).astype(np.float32)
    table = _table(rows, 1)
    load_snapshot(_snapshot(tmp_path, vector=vectors), table, rows, None)
    np.testing.assert_array_equal(table.numpy(), vectors)
    path = str(tmp_path / "snapshot.parquet")
    pyarrow.parquet.write_table(pa.table({"vector": vectors.tolist()}), path)
    table = _table(rows, 1)
    load_snapshot(path, table, rows, None)
    np.testing.assert_array_equal(table.numpy(), vectors)


@pytest.mark.parametrize(
    "arrays, message",
    [
        (
            {"vector": _vectors(3, dim=5)},
            "must hold vectors of 2 numbers, as embedding table 'users' does. "
            "Received: 5",
        ),
        ({"vector": _vectors(4)}, "must hold 3 vectors, one per row. Received: 4"),
        ({"vector": _vectors(2)}, "must hold 3 vectors, one per row. Received: 2"),
        ({"vectors": _vectors(3)}, "Received: no array of that name"),
        ({"vector": np.ones(3)}, r"must hold `vector`, \(rows, dim\). Received: \(3,"),
        (
            {"entity": np.arange(2), "vector": _vectors(3)},
            "as many entities as vectors. Received: 2 and 3",
        ),
        (
            {"entity": np.arange(3), "vector": _vectors(3)},
            "names entities: set TableSpec.vocabulary",
        ),
    ],
)
def test_a_snapshot_that_does_not_fit(tmp_path, arrays, message):
    path = _snapshot(tmp_path, **arrays)
    with pytest.raises(UserError, match=message) as caught:
        load_snapshot(path, _table(3), 3, None)
    assert path in str(caught.value)


def test_a_snapshot_with_an_entity_twice(tmp_path):
    vocabulary = _vocabulary(tmp_path, [1, 2], [0, 1])
    path = _snapshot(tmp_path, entity=np.array([1, 1]), vector=_vectors(2))
    with pytest.raises(UserError, match="holds an entity more than once"):
        load_snapshot(path, _table(3), 2, vocabulary)


def test_a_snapshot_with_entities_of_another_type(tmp_path):
    vocabulary = _vocabulary(tmp_path, ["a", "b"], [0, 1])
    path = _snapshot(tmp_path, entity=np.array([1, 2]), vector=_vectors(2))
    with pytest.raises(UserError, match="must both be integers or both be text"):
        load_snapshot(path, _table(3), 2, vocabulary)


def test_a_snapshot_that_is_no_snapshot(tmp_path):
    path = tmp_path / "snapshot.npz"
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(UserError, match="cannot be read"):
        load_snapshot(str(path), _table(3), 3, None)
    with pytest.raises(UserError, match=r"missing.npz.* cannot be read"):
        load_snapshot(str(tmp_path / "missing.npz"), _table(3), 3, None)


def test_a_parquet_snapshot_of_uneven_vectors(tmp_path):
    path = str(tmp_path / "snapshot.parquet")
    pyarrow.parquet.write_table(pa.table({"vector": [[1.0, 2.0], [3.0]]}), path)
    with pytest.raises(UserError, match=r"one length. Received: lengths \[1, 2\]"):
        load_snapshot(path, _table(2), 2, None)


def test_half_a_snapshot(tmp_path):
    path = pathlib.Path(_snapshot(tmp_path, vector=_vectors(3)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"snapshot.npz cannot be read") as caught:
        load_snapshot(str(path), _table(3), 3, None)
    assert "\n" not in str(caught.value)


def test_one_array_named_as_an_archive(tmp_path):
    path = tmp_path / "snapshot.npz"
    with open(path, "wb") as file:
        np.save(file, _vectors(3))
    with pytest.raises(UserError, match=r"snapshot.npz cannot be read") as caught:
        load_snapshot(str(path), _table(3), 3, None)
    assert "\n" not in str(caught.value)


def test_a_fingerprint_tells_vocabularies_apart_but_not_orders():
    def of(entities, rows):
        dtype = object if isinstance(entities[0], bytes) else np.int64
        return fingerprint(np.array(entities, dtype), np.array(rows))

    assert of([7, 9], [0, 1]) == of([9, 7], [1, 0])
    assert of([b"x", b"yz"], [0, 1]) == of([b"yz", b"x"], [1, 0])
    different = [
        of([7, 9], [0, 1]),
        of([7, 9], [1, 0]),
        of([7, 9], [0, 2]),
        of([7, 8], [0, 1]),
        of([7], [0]),
        of([b"x", b"yz"], [0, 1]),
        of([b"xy", b"z"], [0, 1]),
    ]
    assert len(set(different)) == len(different)


@pytest.mark.parametrize("read", ["a run's state", "the weights alone"])
def test_a_checkpoint_knows_the_vocabulary_of_a_table(tmp_path, read):
    def model():
        holder = tf.Module()
        holder.finder = VocabularyRows("users", 4, str(path))
        holder.finder.build(None)
        holder.table = tf.Variable(tf.zeros([5, 2]))
        return holder

    def restore():
        if read == "the weights alone":
            checkpoints.restore_model(saved, model())
        else:
            checkpoints.Checkpoints(str(tmp_path), model(), {}).restore(saved)

    path = pathlib.Path(_vocabulary(tmp_path, [10, 20, 30], [0, 1, 2]))
    run = checkpoints.Checkpoints(str(tmp_path), model(), {})
    run.save(1, config="")
    run.wait()
    saved = checkpoints.checkpoint_path(str(tmp_path), 1)
    _vocabulary(tmp_path, [30, 20, 10], [2, 1, 0])
    restore()
    _vocabulary(tmp_path, [10, 20, 30], [1, 0, 2])
    message = f"another vocabulary of table 'users': with {path} as it is now"
    with pytest.raises(UserError, match=re.escape(message)):
        restore()
    described = checkpoints.read_metadata(saved)
    del described["vocabularies"]  # Of before there were fingerprints.
    (pathlib.Path(saved) / "checkpoint.json").write_text(json.dumps(described))
    restore()
