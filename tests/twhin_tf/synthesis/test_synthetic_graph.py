"""A made-up graph is as its settings say, to the byte."""

import json

import numpy as np
import pytest

from recap_tf.core.command import UserError
from twhin_tf.graph.edge_batches import Edges, read_edges
from twhin_tf.graph.entities import read_entities
from twhin_tf.synthesis.synthetic_graph import SyntheticGraph, make_graph

SETTINGS = {
    "nodes": {"user": 2000, "item": 500},
    "relations": {
        "buy": ("user", "item", 20_000, 0.9),
        "know": ("user", "user", 10_000, 0.5),
    },
    "communities": 5,
    "held_out": (0.05, 0.1),
}


def settings_of(folder, **changes):
    return SyntheticGraph(folder=str(folder), **(SETTINGS | changes))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("made") / "graph"
    make_graph(settings_of(folder), lambda line: None)
    return folder


@pytest.fixture(scope="module")
def graph(folder):
    return make_graph(settings_of(folder), lambda line: None)


def test_types_relations_and_splits_are_those_of_the_settings(graph):
    assert graph.rows == SETTINGS["nodes"]
    names = ["buy", "know", "buy/inverse", "know/inverse"]
    assert [relation.name for relation in graph.relations] == names
    edges = {name: read_edges(Edges(split=name), graph) for name in graph.splits}
    assert {name: len(split) for name, split in edges.items()} == graph.splits
    total = sum(graph.splits.values())
    # Equal edges are drawn once.
    assert 22_000 < total < 30_000
    assert abs(graph.splits["validation"] / total - 0.05) < 0.01
    assert abs(graph.splits["test"] / total - 0.1) < 0.01
    together = np.concatenate(list(edges.values()))
    assert len(np.unique(together, axis=0)) == total
    know = together[together[:, 1] == 1]
    assert (know[:, 0] != know[:, 2]).all()


def test_edges_stay_within_communities(graph):
    edges = read_edges(Edges(), graph)
    communities = {n: read_entities(graph, n).communities for n in graph.types}
    for number, rhs, inside in ((0, "item", 0.9), (1, "user", 0.5)):
        drawn = edges[edges[:, 1] == number]
        same = communities["user"][drawn[:, 0]] == communities[rhs][drawn[:, 2]]
        # Those drawn among all fall into the same of the 5 by chance, too; leaving
        # equal edges out takes more from within.
        assert abs(same.mean() - (inside + (1 - inside) / 5)) < 0.08


def test_rows_fall_by_degree_and_degrees_by_a_power_law(graph):
    edges = read_edges(Edges(), graph)
    entities = read_entities(graph, "item")
    degrees = np.bincount(edges[edges[:, 1] == 0, 2], minlength=500)
    np.testing.assert_array_equal(entities.counts, degrees)
    assert (np.diff(degrees) <= 0).all()
    assert sorted(entities.ids.to_pylist()) == list(range(500))
    # The busiest tenth of a power law of exponent 2.5 has 46 % of all edges.
    assert 0.3 < degrees[:50].sum() / degrees.sum() < 0.55


def test_the_same_settings_give_the_same_bytes(folder, tmp_path):
    make_graph(settings_of(tmp_path / "again"), lambda line: None)
    names = [p.relative_to(folder) for p in folder.rglob("*") if p.is_file()]
    assert len(names) >= 8
    for name in names:
        assert (folder / name).read_bytes() == (tmp_path / "again" / name).read_bytes()


def test_a_graph_that_is_there_stays(folder, tmp_path):
    before = (folder / "graph.json").stat().st_mtime_ns
    make_graph(settings_of(folder), lambda line: None)
    assert (folder / "graph.json").stat().st_mtime_ns == before
    with pytest.raises(UserError, match=r"made with other settings \(other seed\)"):
        make_graph(settings_of(folder, seed=2))
    (tmp_path / "notes").write_text("")
    with pytest.raises(UserError, match="exists and holds no made-up data"):
        make_graph(settings_of(tmp_path))


def test_the_best_reachable_mrr_tells_how_much_communities_say(folder):
    best = json.loads((folder / "synthetic.json").read_text())["best_mrr"]
    # Popularity alone reaches less; the community tells more of buy than of know.
    assert 0.05 < best["know"] < best["buy"] < 0.5


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"nodes": {"user": 1, "item": 5}}, r"nodes\['user'\] must be at least 2"),
        ({"relations": {}}, "relations must hold a relation"),
        (
            {"relations": {"r": ("user", "post", 5, 0.5)}},
            r"relations\['r'\] must go between .*user, item.* Received: 'post'",
        ),
        ({"relations": {"r": ("user", "item", 5, 1.5)}}, ".* Received: 5, 1.5"),
        ({"exponent": 1.0}, "exponent must be above 1. Received: 1.0"),
        ({"communities": 0}, "communities must be at least 1. Received: 0"),
        ({"held_out": (0.5, 0.5)}, "held_out must be two shares"),
    ],
)
def test_settings_out_of_range_are_refused(tmp_path, changes, message):
    with pytest.raises(ValueError, match=f"SyntheticGraph.{message}"):
        settings_of(tmp_path, **changes)
