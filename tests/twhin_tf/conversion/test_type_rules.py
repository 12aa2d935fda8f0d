"""Node types are as listed, as the ids' prefixes say, or one for all."""

import pytest
from conversions import EDGES, convert, named

from recap_tf.core.command import UserError
from twhin_tf.graph.entities import read_entities
from twhin_tf.graph.graph import read_graph


def test_all_nodes_are_of_one_type_if_nothing_is_said(tmp_path):
    folder = convert(tmp_path, EDGES)
    assert sorted(named(folder)) == sorted(EDGES)
    graph = read_graph(str(folder))
    assert [r.name for r in graph.relations] == [
        "likes",
        "follows",
        "likes/inverse",
        "follows/inverse",
    ]
    entities = read_entities(graph, "entity")
    # By falling count, equals by their ids.
    assert entities.ids.to_pylist() == ["bob", "ann", "p1", "p2"]
    assert entities.counts.tolist() == [3, 2, 2, 1]


def test_types_are_those_listed(tmp_path):
    types = ["--types", "likes=user:post", "follows=user:user", "--no-inverse"]
    folder = convert(tmp_path, EDGES, *types)
    graph = read_graph(str(folder))
    assert graph.rows == {"post": 2, "user": 2}
    assert [(r.lhs, r.rhs) for r in graph.relations] == [
        ("user", "post"),
        ("user", "user"),
    ]
    assert sorted(named(folder)) == sorted(EDGES)


def test_types_are_the_ids_prefixes(tmp_path):
    edges = [
        ("u:1", "likes", "p:1"),
        ("u:2", "likes", "p:2:x"),
        ("u:2", "knows", "u:1"),
    ]
    folder = convert(tmp_path, edges, "--type-prefix", ":")
    assert read_graph(str(folder)).rows == {"p": 2, "u": 2}
    assert sorted(named(folder)) == sorted(edges)


def test_a_relation_between_other_types_than_before_is_refused(tmp_path):
    edges = [("u:1", "likes", "p:1"), ("u:1", "likes", "u:2")]
    with pytest.raises(UserError, match="row 2: relation 'likes' goes from 'u' to 'p'"):
        convert(tmp_path, edges, "--type-prefix", ":")
