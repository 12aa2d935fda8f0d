import collections
import gzip
import json
import pathlib
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recap_tf.core.command import UserError
from recap_tf.core.config import gin_config
from twhin_tf import settings
from twhin_tf.graph.edge_batches import Edges, read_edges
from twhin_tf.graph.edge_hashes import hash_ids, mix
from twhin_tf.graph.entities import read_entities
from twhin_tf.graph.graph import read_graph
from twhin_tf.vocabulary import main

EDGES = [
    ("ann", "likes", "p1"),
    ("bob", "likes", "p1"),
    ("bob", "likes", "p2"),
    ("ann", "follows", "bob"),
]


def parquet(path, edges, columns=("head", "relation", "tail")):
    pq.write_table(
        pa.table(list(map(pa.array, zip(*edges, strict=True))), list(columns)), path
    )
    return str(path)


def named(folder, split="train"):
    """The edges of a split with their ids and names again."""
    graph = read_graph(str(folder))
    ids = {name: read_entities(graph, name).ids.to_pylist() for name in graph.types}
    found = []
    for lhs, rel, rhs in read_edges(Edges(split=split), graph).tolist():
        relation = graph.relations[rel]
        found.append((ids[relation.lhs][lhs], relation.name, ids[relation.rhs][rhs]))
    return found


def convert(tmp_path, edges, *flags):
    main(["--edges", parquet(tmp_path / "e.parquet", edges), *_out(tmp_path), *flags])
    return tmp_path / "graph"


def _out(tmp_path):
    return ["--out", str(tmp_path / "graph")]


def test_one_type(tmp_path):
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


def test_listed_types(tmp_path):
    types = ["--types", "likes=user:post", "follows=user:user", "--no-inverse"]
    folder = convert(tmp_path, EDGES, *types)
    graph = read_graph(str(folder))
    assert graph.rows == {"post": 2, "user": 2}
    assert [(r.lhs, r.rhs) for r in graph.relations] == [
        ("user", "post"),
        ("user", "user"),
    ]
    assert sorted(named(folder)) == sorted(EDGES)


def test_types_from_a_prefix(tmp_path):
    edges = [
        ("u:1", "likes", "p:1"),
        ("u:2", "likes", "p:2:x"),
        ("u:2", "knows", "u:1"),
    ]
    folder = convert(tmp_path, edges, "--type-prefix", ":")
    assert read_graph(str(folder)).rows == {"p": 2, "u": 2}
    assert sorted(named(folder)) == sorted(edges)


@pytest.mark.parametrize("kind", ["csv", "tsv.gz", "no header"])
def test_text_files(tmp_path, kind):
    mark = "," if kind == "csv" else "\t"
    lines = [mark.join(edge) for edge in EDGES]
    flags = ["--columns", "a,b,c"]
    if kind == "no header":
        flags.append("--no-header")
    else:
        lines.insert(0, mark.join("abc"))
    text = ("\n".join(lines) + "\n").encode()
    path = tmp_path / "edges.txt"
    path.write_bytes(gzip.compress(text) if kind == "tsv.gz" else text)
    main(["--edges", str(path), *_out(tmp_path), *flags])
    assert sorted(named(tmp_path / "graph")) == sorted(EDGES)


def test_whole_numbers_stay_numbers(tmp_path):
    edges = [(2**40, 7, 5), (-1, 7, 5)]
    folder = convert(tmp_path, edges, "--types", "7=user:item")
    assert sorted(named(folder)) == [(-1, "7", 5), (2**40, "7", 5)]
    (tmp_path / "e.csv").write_text("user,item\n5,x\n6,y\n")
    flags = ["--columns", "user,item", "--types", "buy=user:item", "--overwrite"]
    main(["--edges", str(tmp_path / "e.csv"), *_out(tmp_path), *flags])
    assert sorted(named(folder)) == [(5, "buy", "x"), (6, "buy", "y")]


def test_files_for_each_split(tmp_path):
    test = [("bob", "follows", "eve"), ("ann", "follows", "bob")]
    path = parquet(tmp_path / "t.parquet", test)
    folder = convert(tmp_path, EDGES, "--test", path)
    assert sorted(named(folder, "test")) == sorted(test)
    entities = read_entities(read_graph(str(folder)), "entity")
    # Unseen in training: the last row. Held-out edges are not counted.
    assert entities.ids.to_pylist() == ["bob", "ann", "p1", "p2", "eve"]
    assert entities.counts.tolist() == [3, 2, 2, 1, 0]


def test_rare_entities_go_with_their_edges(tmp_path, capsys):
    test = parquet(tmp_path / "t.parquet", [("bob", "follows", "eve")])
    flags = ["--test", test, "--min-count", "2"]
    folder = convert(tmp_path, EDGES, *flags)
    assert read_graph(str(folder)).splits == {"train": 3}
    assert ("bob", "likes", "p2") not in named(folder)
    out = capsys.readouterr().out
    assert "train: 3 edges, 1 left out for rare entities" in out
    assert "test: 0 edges, 1 left out for rare entities" in out


@pytest.mark.parametrize("what, kept", [("keep", 6), ("drop", 4)])
def test_equal_edges(tmp_path, capsys, what, kept):
    folder = convert(tmp_path, [*EDGES, *EDGES[:2]], "--duplicates", what)
    assert len(named(folder)) == kept
    word = {"keep": "kept", "drop": "left out"}[what]
    assert f"2 repeated ones {word}" in capsys.readouterr().out


def many(count=4000, people=60):
    rng = np.random.default_rng(3)
    pairs = rng.integers(people, size=(count, 2))
    return [(f"n{a}", f"r{i % 3}", f"n{b}") for i, (a, b) in enumerate(pairs.tolist())]


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
    found = {(a, b) for a, relation, b in named(folder) if relation == "follows"}
    assert 200 < len(found) < 1400
    assert {(b, a) for a, b in found} == found


def test_pairs_are_of_nodes_and_not_of_ids(tmp_path):
    # User 1 and post 2 are another pair than user 2 and post 1.
    edges = [(a, "r", b) for a in range(40) for b in range(40)]
    flags = ["--types", "r=user:post", "--split", "0.5,0.5", "--split-by", "pair"]
    train = set(named(convert(tmp_path, edges, *flags)))
    apart = sum(((b, r, a) in train) != ((a, r, b) in train) for a, r, b in edges)
    assert abs(apart - 780) < 120


def test_a_conversion_repeats_itself(tmp_path):
    edges = many()
    folder = convert(tmp_path, edges, "--split", "0.9,0.1")
    before = {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    convert(tmp_path, edges, "--split", "0.9,0.1", "--overwrite")
    assert before == {p: p.read_bytes() for p in folder.rglob("*") if p.is_file()}
    assert len(before) == 5


def test_blocks_do_not_change_the_outcome(tmp_path, monkeypatch):
    edges = many()
    folder = convert(tmp_path, edges, "--split", "0.9,0.1")
    before = (folder / "train" / "edges-00000.parquet").read_bytes()
    monkeypatch.setattr("recap_tf.core.row_files.CHUNK_ROWS", 70)
    monkeypatch.setattr("twhin_tf.conversion.graph_folder.BLOCK_ROWS", 300)
    monkeypatch.setattr("twhin_tf.conversion.entity_counts._PENDING", 10)
    convert(tmp_path, edges, "--split", "0.9,0.1", "--overwrite")
    assert (folder / "train" / "edges-00000.parquet").read_bytes() == before


def test_large_sets_are_spread_over_files(tmp_path, monkeypatch):
    monkeypatch.setattr("twhin_tf.graph.edge_buckets.EDGES_PER_BUCKET", 1000)
    edges = many()
    folder = convert(tmp_path, edges)
    assert len(list((folder / "train").glob("*.parquet"))) == 4
    assert collections.Counter(named(folder)) == collections.Counter(edges)


MEMORY = """
import pathlib, sys
from recap_tf.core import row_files
from twhin_tf import vocabulary
from twhin_tf.conversion import graph_folder
from twhin_tf.graph import edge_buckets

row_files.CHUNK_ROWS, graph_folder.BLOCK_ROWS = 5_000, 20_000
edge_buckets.EDGES_PER_BUCKET = 20_000
for name in ("small", "large"):
    path = f"{sys.argv[1]}/{name}"
    vocabulary.main(["--edges", f"{path}.parquet", "--out", path])
    status = pathlib.Path("/proc/self/status").read_text()
    print(name, status.split("VmHWM:")[1].split()[0])
"""


def test_memory_does_not_grow_with_the_edges(tmp_path):
    names = ["head", "relation", "tail"]
    table = pa.table(list(map(pa.array, zip(*many(20_000), strict=True))), names)
    for name, times in (("small", 5), ("large", 50)):
        path = tmp_path / f"{name}.parquet"
        with pq.ParquetWriter(path, table.schema) as writer:
            for _ in range(times):
                writer.write_table(table)
    run = subprocess.run(
        [sys.executable, "-c", MEMORY, str(tmp_path)],
        check=True,
        capture_output=True,
        text=True,
        cwd=pathlib.Path(__file__).parents[3],
    )
    peaks = dict(re.findall(r"^(small|large) (\d+)$", run.stdout, re.MULTILINE))
    # KB; the large set's million edges take 24 MB as numbers, more as texts.
    assert int(peaks["large"]) - int(peaks["small"]) < 12_000


def test_the_config_trains_on_the_graph(tmp_path):
    folder = convert(tmp_path, EDGES)
    gin_config.load(str(folder / "graph.gin"), roots=settings.ROOTS)
    assert settings.Embedder().graph == str(folder)
    assert settings.TrainSettings().save_dir == str(folder / "run")


@pytest.mark.parametrize(
    "flag, sides", [("--inverse", "rhs"), ("--no-inverse", "both")]
)
def test_the_config_has_negatives_for_both_ends(tmp_path, flag, sides):
    folder = convert(tmp_path, EDGES, flag)
    gin_config.load(str(folder / "graph.gin"), roots=settings.ROOTS)
    assert [one.sides for one in settings.Embedder().negatives] == [sides]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--columns", "head,rel,tail"], "has no column 'rel'. Nearest: 'relation'"),
        (["--columns", "a"], "--columns takes the names of three columns"),
        (["--types", "likes=user"], "--types takes RELATION=LHS:RHS. Received: 'likes"),
        (["--types", "likes=a:b", "likes=a:c"], "lists relation 'likes' twice"),
        (["--types", "likes=a:b"], "row 4: --types does not list relation 'follows'"),
        (
            ["--types", "likes=a:b", "follows=a:a", "follow=a:a"],
            "--types lists relation 'follow', which no edge has. Nearest: 'follows'",
        ),
        (["--type-prefix", ":"], "row 1: --type-prefix : needs ids such as user:7"),
        (["--type-prefix", ":", "--types", "a=b:c"], "cannot be given together"),
        (["--split", "0.9,0.2"], "--split takes up to three positive shares"),
        (["--split", "all"], "--split takes shares such as 0.9,0.05,0.05"),
        (
            ["--split", "0.5,0.5", "--test", "x"],
            "--split and --test exclude",
        ),
        (["--test", "/no/such"], "--test /no/such matches no file"),
        (["--min-count", "9"], "--min-count 9 leaves no entity of type 'entity'"),
        (["--min-count", "-1"], "--min-count must be at least 0. Received: -1"),
        (["--seed", "-1"], "--seed must be at least 0. Received: -1"),
        (["--seed", "-1", "--split", "1"], "--seed must be at least 0. Received: -1"),
        (["--split", "nan,0.1"], "--split takes up to three positive shares"),
        (["--split-by", "pair"], "--split-by says how --split splits"),
        (["--relation", "likes"], "--relation is for edges without a column for it"),
    ],
)
def test_flags_that_cannot_be(tmp_path, flags, message):
    with pytest.raises(UserError, match=message):
        convert(tmp_path, EDGES, *flags)
    assert not (tmp_path / "graph").exists()
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.parametrize(
    "columns, message",
    [
        ([[], [], []], "has no rows"),
        ([["a", None], ["r", "r"], ["b", "c"]], "row 2: column 'head' has a missing"),
        ([["a", "b"], ["r", None], ["b", "c"]], "row 2: column 'relation' has a miss"),
        ([[1.5, 2.0], ["r", "r"], ["b", "c"]], "'head' must hold whole numbers or te"),
        ([["a"], [[1.0]], ["b"]], "'relation' must hold .* Received: vector"),
    ],
)
def test_columns_that_cannot_be(tmp_path, columns, message):
    table = pa.table(list(map(pa.array, columns)), ["head", "relation", "tail"])
    pq.write_table(table, tmp_path / "e.parquet")
    with pytest.raises(UserError, match=message):
        main(["--edges", str(tmp_path / "e.parquet"), *_out(tmp_path)])


def test_numbers_that_turn_out_to_be_texts(tmp_path, monkeypatch):
    monkeypatch.setattr("recap_tf.core.row_files._HEAD_BYTES", 20)
    (tmp_path / "e.csv").write_text("head,tail\n" + "1,2\n" * 9 + "1,x\n")
    flags = ["--columns", "head,tail"]
    with pytest.raises(UserError, match=r"row 10: column 'tail' must hold .*'x'"):
        main(["--edges", str(tmp_path / "e.csv"), *_out(tmp_path), *flags])


def test_a_first_line_that_is_an_edge(tmp_path):
    (tmp_path / "e.tsv").write_text("a\tr\tb\n")
    with pytest.raises(UserError, match=r"has no column 'head'.*give --no-header"):
        main(["--edges", str(tmp_path / "e.tsv"), *_out(tmp_path)])
    flags = ["--no-header", "--columns", "a,b"]
    with pytest.raises(UserError, match="has 3 columns; to name them takes as many"):
        main(["--edges", str(tmp_path / "e.tsv"), *_out(tmp_path), *flags])


def test_a_relation_between_other_types_than_before(tmp_path):
    edges = [("u:1", "likes", "p:1"), ("u:1", "likes", "u:2")]
    with pytest.raises(UserError, match="row 2: relation 'likes' goes from 'u' to 'p'"):
        convert(tmp_path, edges, "--type-prefix", ":")


def test_what_is_there_stays(tmp_path):
    folder = convert(tmp_path, EDGES)
    with pytest.raises(UserError, match=r"exists already. To replace it: --overwrite"):
        convert(tmp_path, EDGES)
    with pytest.raises(UserError, match="min-count"):
        convert(tmp_path, EDGES, "--overwrite", "--min-count", "9")
    assert json.loads((folder / "graph.json").read_text())["splits"]


def test_hashes_are_the_same_everywhere():
    # The first outputs of SplitMix64 with seed 0.
    assert mix(np.array([0])).tolist() == [0xE220A8397B1DCDAF]
    texts = hash_ids(pa.array(["a", "b", "a"]))
    assert texts[0] == texts[2] != texts[1]
    assert len(np.unique(hash_ids(pa.array(list(map(str, range(100_000))))))) == 100_000
