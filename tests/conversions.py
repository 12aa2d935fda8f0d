"""Edges to convert, the command that does it, and what it made of them."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from twhin_tf.graph.edge_batches import Edges, read_edges
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
    """Reads the edges of a split with their ids and names again."""
    graph = read_graph(str(folder))
    ids = {name: read_entities(graph, name).ids.to_pylist() for name in graph.types}
    edges = []
    for lhs, rel, rhs in read_edges(Edges(split=split), graph).tolist():
        relation = graph.relations[rel]
        edges.append((ids[relation.lhs][lhs], relation.name, ids[relation.rhs][rhs]))
    return edges


def convert(tmp_path, edges, *flags):
    main(
        ["--edges", parquet(tmp_path / "e.parquet", edges), *out_flag(tmp_path), *flags]
    )
    return tmp_path / "graph"


def out_flag(tmp_path):
    return ["--out", str(tmp_path / "graph")]


def many(count=4000, people=60):
    rng = np.random.default_rng(3)
    pairs = rng.integers(people, size=(count, 2))
    return [(f"n{a}", f"r{i % 3}", f"n{b}") for i, (a, b) in enumerate(pairs.tolist())]
