"""A conversion keeps every edge, repeats itself, and takes memory for entities only."""

import collections
import json
import pathlib
import re
import subprocess
import sys

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conversions import EDGES, convert, many, named, parquet

from recap_tf.core.command import UserError
from twhin_tf.graph.graph import read_graph


def test_rare_entities_go_with_their_edges(tmp_path, capsys):
    test = parquet(tmp_path / "t.parquet", [("bob", "follows", "eve")])
    flags = ["--test", test, "--min-count", "2"]
    folder = convert(tmp_path, EDGES, *flags)
    assert read_graph(str(folder)).splits == {"train": 3}
    assert ("bob", "likes", "p2") not in named(folder)
    out = capsys.readouterr().out
    assert "train: 3 edges, 1 left out for rare entities" in out
    assert "test: 0 edges, 1 left out for rare entities" in out


@pytest.mark.parametrize("what, count", [("keep", 6), ("drop", 4)])
def test_equal_edges_are_kept_or_dropped(tmp_path, capsys, what, count):
    folder = convert(tmp_path, [*EDGES, *EDGES[:2]], "--duplicates", what)
    assert len(named(folder)) == count
    word = {"keep": "kept", "drop": "left out"}[what]
    assert f"2 repeated ones {word}" in capsys.readouterr().out


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


def test_a_folder_stays_unless_it_is_to_be_replaced(tmp_path):
    folder = convert(tmp_path, EDGES)
    with pytest.raises(UserError, match=r"exists already. To replace it: --overwrite"):
        convert(tmp_path, EDGES)
    with pytest.raises(UserError, match="min-count"):
        convert(tmp_path, EDGES, "--overwrite", "--min-count", "9")
    assert json.loads((folder / "graph.json").read_text())["splits"]
