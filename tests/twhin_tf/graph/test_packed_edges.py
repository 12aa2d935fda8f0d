"""Edges are packed once for each content of their files, graph and window."""

import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_graphs import (
    USERS,
    random_edges,
    two_files,
)

from recap_tf.core.command import UserError
from twhin_tf.graph.edge_batches import (
    Edges,
    read_edge_batches,
)
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType


@pytest.fixture
def graph(tmp_path):
    return two_files(tmp_path)


def take(dataset, edges):
    """Reads the first `edges` of a data set of batches."""
    batches, seen = [], 0
    for batch in dataset:
        batches.append(batch.numpy())
        seen += len(batch)
        if seen >= edges:
            break
    return np.concatenate(batches)[:edges]


def test_edges_are_packed_once(graph, monkeypatch):
    packed = os.path.join(graph.folder, "train", ".packed")
    read_edge_batches(Edges(), graph, 5)
    first = os.listdir(packed)
    monkeypatch.setattr("twhin_tf.graph.packed_edges.read_split", None)
    read_edge_batches(Edges(), graph, 7, seed=3)
    assert os.listdir(packed) == first and len(first) == 1


def test_edges_are_packed_again_when_the_files_change(graph):
    read_edge_batches(Edges(), graph, 5)
    write_edges(graph, "train", 2, random_edges(10, seed=1))
    read = take(read_edge_batches(Edges(), graph, 500, training=False), 20_000)
    assert len(read) == 10_010


def test_edges_are_packed_again_for_another_window_or_content(graph):
    def read(settings):
        return take(read_edge_batches(settings, graph, 500, training=False), 20_000)

    assert len(read(Edges(limit=5))) == 5
    assert len(read(Edges(limit=6))) == 6
    assert read(Edges(limit=1)).tolist() != read(Edges(limit=1, offset=1)).tolist()
    write_edges(graph, "train", 0, random_edges(1, seed=9))
    assert read(Edges(limit=1)).tolist() == random_edges(1, seed=9).tolist()


def test_packed_edges_are_checked_again_for_another_graph(graph):
    table = pa.table({"lhs": [USERS - 1], "rel": [1], "rhs": [0]})
    for path in graph.edge_files("train"):
        pq.write_table(table, path)
    read_edge_batches(Edges(), graph, 5)
    types = dict(graph.types, user=NodeType(name="user", rows=USERS - 1))
    smaller = Graph(
        folder=graph.folder,
        types=types,
        relations=graph.relations,
        splits=graph.splits,
    )
    with pytest.raises(UserError, match=r"lhs must be .* below 299"):
        read_edge_batches(Edges(), smaller, 5)


def test_edges_are_packed_in_the_cache_folder(graph, tmp_path):
    settings = Edges(cache_folder=str(tmp_path / "cache"))
    read_edge_batches(settings, graph, 5)
    assert not os.path.exists(os.path.join(graph.folder, "train", ".packed"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Edges.cache_folder = .*cannot be written"):
        read_edge_batches(Edges(cache_folder=str(tmp_path / "file")), graph, 5)
