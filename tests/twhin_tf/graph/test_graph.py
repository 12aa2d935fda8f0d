"""A graph comes back as written; what is no graph is refused in one line."""

import json

import pytest

from recap_tf.core.command import UserError
from twhin_tf.graph.entities import (
    vocabulary_path,
)
from twhin_tf.graph.graph import (
    Graph,
    NodeType,
    Relation,
    read_graph,
    with_inverses,
    write_graph,
)


def graph_of(folder, **changes):
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
    graph = graph_of(tmp_path, types=types)
    write_graph(graph)
    assert read_graph(str(tmp_path)) == graph
    assert graph.inverses == [1, 0]
    assert graph.relations[1].name == "like/inverse"
    assert (graph.relations[1].lhs, graph.relations[1].rhs) == ("post", "user")


def test_a_vocabulary_is_found_where_its_folder_was_moved(tmp_path):
    path = vocabulary_path(str(tmp_path / "a"), "a/b")
    types = {"a/b": NodeType(name="a/b", rows=1, vocabulary=path)}
    relations = [Relation(name="r", lhs="a/b", rhs="a/b")]
    write_graph(graph_of(tmp_path / "a", types=types, relations=relations))
    (tmp_path / "a").rename(tmp_path / "b")
    path = read_graph(str(tmp_path / "b")).types["a/b"].vocabulary
    assert path == vocabulary_path(str(tmp_path / "b"), "a/b")


def test_the_fingerprint_tells_what_the_numbers_mean(tmp_path):
    prints = {
        graph_of(tmp_path).fingerprint,
        graph_of(
            tmp_path, relations=[Relation(name="r", lhs="user", rhs="post")]
        ).fingerprint,
        graph_of(tmp_path, types={"user": NodeType(name="user", rows=3)} | {
            "post": NodeType(name="post", rows=6)
        }).fingerprint,
    }  # fmt: skip
    assert len(prints) == 3
    assert graph_of(tmp_path, splits={}).fingerprint == graph_of(tmp_path).fingerprint


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
def test_relations_that_make_no_graph_are_refused(tmp_path, relations, message):
    with pytest.raises(UserError, match=f"{tmp_path}/graph.json: .*{message}"):
        graph_of(tmp_path, relations=relations)


def test_a_table_without_rows_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"must have at least 1 row. Received: 0"):
        graph_of(tmp_path, types={"user": NodeType(name="user", rows=0)})


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda c: c.pop("relations"), "no 'relations'"),
        (lambda c: c["types"]["user"].update(rows="3"), "whole number. Received: '3'"),
        (lambda c: c["relations"][0].update(weight=2), "weight"),
    ],
)
def test_a_file_that_describes_no_graph_is_refused(tmp_path, change, message):
    write_graph(graph_of(tmp_path))
    content = json.loads((tmp_path / "graph.json").read_text())
    change(content)
    (tmp_path / "graph.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match=f"graph.json does not describe.*{message}"):
        read_graph(str(tmp_path))


def test_missing_graphs_splits_and_files_are_named(tmp_path):
    with pytest.raises(UserError, match=r"graph.json does not exist; .*vocabulary"):
        read_graph(str(tmp_path))
    with pytest.raises(UserError, match=r"has no split 'test'. It has: 'train'"):
        graph_of(tmp_path).edge_files("test")
    with pytest.raises(UserError, match=r"train/\*.parquet matches no file"):
        graph_of(tmp_path).edge_files("train")
