import json

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
from twhin_tf.graph.graph import Graph, NodeType, Relation, read_graph, with_inverses
from twhin_tf.graph.graph import write_graph as write


def graph(folder, **changes):
    settings = {
        "types": {
            "user": NodeType(name="user", rows=3),
            "post": NodeType(name="post", rows=5),
        },
        "relations": with_inverses([Relation(name="like", lhs="user", rhs="post")]),
        "splits": {"train": 7},
    }
    return Graph(folder=str(folder), **(settings | changes))


def test_a_graph_comes_back_as_written(tmp_path):
    types = {
        "user": NodeType(
            name="user",
            rows=3,
            vocabulary=vocabulary_path(str(tmp_path), "user"),
            fingerprint="ab",
        ),
        "post": NodeType(name="post", rows=5),
    }
    made = graph(tmp_path, types=types)
    write(made)
    assert read_graph(str(tmp_path)) == made
    assert made.inverses == [1, 0]
    assert made.relations[1].name == "like/inverse"
    assert (made.relations[1].lhs, made.relations[1].rhs) == ("post", "user")


def test_the_vocabulary_moves_with_the_folder(tmp_path):
    path = vocabulary_path(str(tmp_path / "a"), "a/b")
    types = {"a/b": NodeType(name="a/b", rows=1, vocabulary=path)}
    relations = [Relation(name="r", lhs="a/b", rhs="a/b")]
    write(graph(tmp_path / "a", types=types, relations=relations))
    (tmp_path / "a").rename(tmp_path / "b")
    found = read_graph(str(tmp_path / "b")).types["a/b"].vocabulary
    assert found == vocabulary_path(str(tmp_path / "b"), "a/b")


def test_the_fingerprint_tells_what_the_numbers_mean(tmp_path):
    prints = {
        graph(tmp_path).fingerprint,
        graph(
            tmp_path, relations=[Relation(name="r", lhs="user", rhs="post")]
        ).fingerprint,
        graph(tmp_path, types={"user": NodeType(name="user", rows=3)} | {
            "post": NodeType(name="post", rows=6)
        }).fingerprint,
    }  # fmt: skip
    assert len(prints) == 3
    assert graph(tmp_path, splits={}).fingerprint == graph(tmp_path).fingerprint


@pytest.mark.parametrize(
    "relations, message",
    [
        ([], "there must be at least one relation"),
        (
            [Relation(name="like", lhs="user", rhs="tweet")],
            "the rhs of relation 'like' must be one of the types 'user', 'post'. "
            "Received: 'tweet'",
        ),
        ([Relation(name="r", lhs="user", rhs="user")] * 2, "two relations are called"),
        (
            [Relation(name="i", lhs="user", rhs="user", inverse_of="x")],
            "inverse_of of relation 'i' must be a relation whose edges are stored",
        ),
        (
            [
                Relation(name="r", lhs="user", rhs="post"),
                Relation(name="i", lhs="user", rhs="post", inverse_of="r"),
            ],
            "relation 'i' must go from 'post' to 'user', as the inverse of 'r'",
        ),
    ],
)
def test_relations_that_make_no_graph(tmp_path, relations, message):
    with pytest.raises(UserError, match=f"{tmp_path}/graph.json: .*{message}"):
        graph(tmp_path, relations=relations)


def test_a_table_without_rows(tmp_path):
    with pytest.raises(UserError, match=r"must have at least 1 row. Received: 0"):
        graph(tmp_path, types={"user": NodeType(name="user", rows=0)})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("relations"), "no 'relations'"),
        (lambda c: c["types"]["user"].update(rows="3"), "whole number. Received: '3'"),
        (lambda c: c["relations"][0].update(weight=2), "weight"),
    ],
)
def test_a_file_that_describes_no_graph(tmp_path, change, message):
    write(graph(tmp_path))
    content = json.loads((tmp_path / "graph.json").read_text())
    change(content)
    (tmp_path / "graph.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"graph.json does not describe.*{message}"):
        read_graph(str(tmp_path))


def test_no_graph_and_no_split(tmp_path):
    with pytest.raises(UserError, match=r"graph.json does not exist; .*vocabulary"):
        read_graph(str(tmp_path))
    with pytest.raises(UserError, match=r"has no split 'test'. It has: 'train'"):
        graph(tmp_path).edge_files("test")
    with pytest.raises(UserError, match=r"train/\*.parquet matches no file"):
        graph(tmp_path).edge_files("train")


def with_vocabulary(tmp_path, ids):
    path = vocabulary_path(str(tmp_path), "user")
    (tmp_path / "vocabulary").mkdir()
    write_entities(path, Entities(ids=ids, counts=np.array([5, 2, 0])))
    node_type = NodeType(
        name="user", rows=3, vocabulary=path, fingerprint=fingerprint(ids)
    )
    relations = [Relation(name="r", lhs="user", rhs="user")]
    return graph(tmp_path, types={"user": node_type}, relations=relations), path


@pytest.mark.parametrize("ids", [["c", "a", "bb"], [7, -1, 2**40]])
def test_entities_come_back_by_row(tmp_path, ids):
    made, _ = with_vocabulary(tmp_path, pa.array(ids))
    found = read_entities(made, "user")
    assert found.ids.to_pylist() == ids
    assert found.counts.tolist() == [5, 2, 0]
    assert found.communities is None


def test_entities_without_a_vocabulary_are_their_rows(tmp_path):
    found = read_entities(graph(tmp_path), "user")
    assert found.ids.to_pylist() == [0, 1, 2] and found.counts is None


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
def test_a_vocabulary_that_does_not_belong_to_the_edges(tmp_path, columns, message):
    made, path = with_vocabulary(tmp_path, pa.array(["a", "b", "c"]))
    other = {"entity": ["a", "b", "c"], "row": [0, 1, 2], "count": [5, 2, 0]} | columns
    pq.write_table(pa.table(other), path)
    with pytest.raises(UserError, match=message):
        read_entities(made, "user")


def test_a_vocabulary_of_another_size_or_without_a_column(tmp_path):
    made, path = with_vocabulary(tmp_path, pa.array(["a", "b", "c"]))
    pq.write_table(pa.table({"entity": ["a"], "row": [0], "count": [1]}), path)
    with pytest.raises(UserError, match=r"type 'user' has 3 rows. Received: 1"):
        read_entities(made, "user")
    pq.write_table(pa.table({"entity": ["a"], "row": [0]}), path)
    with pytest.raises(UserError, match="has no column 'count'"):
        read_entities(made, "user")
