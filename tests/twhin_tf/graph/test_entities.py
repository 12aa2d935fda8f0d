"""Entities come back by row; a vocabulary that does not fit is refused in one line."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recap_tf.core.command import UserError
from twhin_tf.graph.entities import (
    Entities,
    fingerprint,
    read_entities,
    vocabulary_path,
    write_entities,
)
from twhin_tf.graph.graph import Graph, NodeType, Relation


def with_vocabulary(tmp_path, ids):
    path = vocabulary_path(str(tmp_path), "user")
    (tmp_path / "vocabulary").mkdir()
    write_entities(path, Entities(ids=ids, counts=np.array([5, 2, 0])))
    node_type = NodeType(
        name="user", rows=3, vocabulary=path, fingerprint=fingerprint(ids)
    )
    relations = [Relation(name="r", lhs="user", rhs="user")]
    graph = Graph(
        folder=str(tmp_path),
        types={"user": node_type},
        relations=relations,
        splits={},
    )
    return graph, path


@pytest.mark.parametrize("ids", [["c", "a", "bb"], [7, -1, 2**40]])
def test_entities_come_back_by_row(tmp_path, ids):
    graph, _ = with_vocabulary(tmp_path, pa.array(ids))
    entities = read_entities(graph, "user")
    assert entities.ids.to_pylist() == ids
    assert entities.counts.tolist() == [5, 2, 0]
    assert entities.communities is None


def test_entities_without_a_vocabulary_are_their_rows():
    types = {"user": NodeType(name="user", rows=3)}
    relations = [Relation(name="r", lhs="user", rhs="user")]
    graph = Graph(folder="", types=types, relations=relations, splits={})
    entities = read_entities(graph, "user")
    assert entities.ids.to_pylist() == [0, 1, 2] and entities.counts is None


def test_a_fingerprint_is_of_the_ids_and_not_of_how_they_are_stored():
    texts = pa.array(["ab", "c"], pa.large_string())
    assert fingerprint(texts) == fingerprint(pa.array(["x", "ab", "c"]).slice(1))
    assert fingerprint(texts) != fingerprint(pa.array(["a", "bc"]))
    assert fingerprint(texts) != fingerprint(pa.array(["c", "ab"]))
    assert fingerprint(pa.array([1, 2])) != fingerprint(pa.array([2, 1]))


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"entity": ["c", "a", "b"]}, "its fingerprint must be .* Received"),
        ({"row": [0, 2, 1]}, "column 'row' must count 0, 1, 2"),
        ({"row": ["0", "1", "2"]}, "column 'row' must hold whole numbers"),
        ({"count": [1, None, 2]}, "column 'count' has missing values"),
        ({"entity": [None, "a", "b"]}, "column 'entity' has missing values"),
        ({"entity": [0.5, 1.0, 2.0]}, "must hold whole numbers or texts"),
    ],
)
def test_a_vocabulary_of_other_edges_is_refused(tmp_path, columns, message):
    graph, path = with_vocabulary(tmp_path, pa.array(["a", "b", "c"]))
    other = {"entity": ["a", "b", "c"], "row": [0, 1, 2], "count": [5, 2, 0]} | columns
    pq.write_table(pa.table(other), path)
    with pytest.raises(UserError, match=message):
        read_entities(graph, "user")


def test_a_vocabulary_of_another_size_or_without_a_column_is_refused(tmp_path):
    graph, path = with_vocabulary(tmp_path, pa.array(["a", "b", "c"]))
    pq.write_table(pa.table({"entity": ["a"], "row": [0], "count": [1]}), path)
    with pytest.raises(UserError, match=r"type 'user' has 3 rows. Received: 1"):
        read_entities(graph, "user")
    pq.write_table(pa.table({"entity": ["a"], "row": [0]}), path)
    with pytest.raises(UserError, match="has no column 'count'"):
        read_entities(graph, "user")
