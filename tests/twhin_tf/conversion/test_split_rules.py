"""Splits are those of the files, or random shares by edge or by pair of nodes."""

from conversions import EDGES, convert, many, named, parquet

from twhin_tf.graph.entities import read_entities
from twhin_tf.graph.graph import read_graph


def test_given_splits_are_kept_and_held_out_edges_not_counted(tmp_path):
    test = [("bob", "follows", "eve"), ("ann", "follows", "bob")]
    path = parquet(tmp_path / "t.parquet", test)
    folder = convert(tmp_path, EDGES, "--test", path)
    assert sorted(named(folder, "test")) == sorted(test)
    entities = read_entities(read_graph(str(folder)), "entity")
    # Unseen in training: the last row. Held-out edges are not counted.
    assert entities.ids.to_pylist() == ["bob", "ann", "p1", "p2", "eve"]
    assert entities.counts.tolist() == [3, 2, 2, 1, 0]


def test_shares_keep_equal_edges_together_whatever_their_order(tmp_path):
    edges = many()
    split = ["--split", "0.8,0.15,0.05", "--overwrite"]
    folder = convert(tmp_path, edges, *split)
    parts = {name: named(folder, name) for name in ("train", "validation", "test")}
    assert sum(map(len, parts.values())) == len(edges)
    assert abs(len(parts["validation"]) - 600) < 90
    assert abs(len(parts["test"]) - 200) < 60
    assert not set(parts["train"]) & set(parts["test"])
    convert(tmp_path, edges[::-1], *split)
    assert sorted(named(folder, "test")) == sorted(parts["test"])
    convert(tmp_path, edges, *split, "--seed", "1")
    assert sorted(named(folder, "test")) != sorted(parts["test"])


def test_shares_by_pair_keep_both_directions_together(tmp_path):
    folder = convert(tmp_path, many(), "--split", "0.7,0.3", "--split-by", "pair")
    train, held_out = (
        {frozenset((lhs, rhs)) for lhs, _, rhs in named(folder, split)}
        for split in ("train", "validation")
    )
    assert train and held_out and not train & held_out


def test_pairs_stay_together_where_one_column_is_text(tmp_path):
    # Users follow users, whose ids are numbers, and like posts, whose ids are text.
    follows = [(a, "follows", str(b)) for a in range(40) for b in range(40) if a != b]
    edges = [*follows, (1, "likes", "p1")]
    flags = ["--types", "follows=user:user", "likes=user:post", "--split", "0.5,0.5"]
    folder = convert(tmp_path, edges, *flags, "--split-by", "pair")
    pairs = {(a, b) for a, relation, b in named(folder) if relation == "follows"}
    assert 200 < len(pairs) < 1400
    assert {(b, a) for a, b in pairs} == pairs


def test_pairs_are_of_nodes_and_not_of_ids(tmp_path):
    # User 1 and post 2 are another pair than user 2 and post 1.
    edges = [(a, "r", b) for a in range(40) for b in range(40)]
    flags = ["--types", "r=user:post", "--split", "0.5,0.5", "--split-by", "pair"]
    train = set(named(convert(tmp_path, edges, *flags)))
    apart = sum(((b, r, a) in train) != ((a, r, b) in train) for a, r, b in edges)
    assert abs(apart - 780) < 120
