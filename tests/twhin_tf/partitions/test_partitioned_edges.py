"""A pass over the pairs of partitions reads every edge once."""

import numpy as np
import pytest
from partitioned_graphs import make_graph

from twhin_tf.graph.edge_batches import Edges
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.partitions import partitioned_edges
from twhin_tf.partitions.partition_layout import Layout
from twhin_tf.partitions.partition_order import visits
from twhin_tf.partitions.partitioned_edges import PartitionedEdges, PieceBatches


def all_edges(users=10, items=7) -> np.ndarray:
    buy = [[u, 0, i] for u in range(users) for i in range(items)]
    know = [[u, 1, v] for u in range(users) for v in range(users)]
    return np.array(buy + know)


@pytest.mark.parametrize("chunks", [1, 3])
@pytest.mark.parametrize("inverse", [False, True])
@pytest.mark.parametrize("users, most", [(10, 1000), (10, 9), (80, 1000)])
def test_a_pass_reads_every_edge_once(
    tmp_path, monkeypatch, chunks, inverse, users, most
):
    # 80 users have 6960 edges, two packed blocks; a visit has more than 9.
    monkeypatch.setattr(partitioned_edges, "_BLOCKS_AT_ONCE", 1)
    monkeypatch.setattr(partitioned_edges, "_PIECE", most)
    graph, edges = make_graph(tmp_path, users, inverse=inverse), all_edges(users)
    write_edges(graph, "train", 0, edges)
    layout = Layout(graph, 3, 2, frozenset())
    read = PartitionedEdges(str(tmp_path / "parts"), Edges(), layout, seed=0)
    pieces = []
    for chunk in range(chunks):
        for visit in visits(3, [0, 1], np.random.default_rng(chunk)):
            for number in range(read.piece_count(visit, chunks)):
                piece = read.piece(visit, number, chunk, chunks, turn=chunk)
                assert set(np.unique(piece[:, [0, 2]] % 3)) <= set(visit.held)
                # Shares of three pairs are rounded; turned edges come on top.
                assert len(piece) <= (most + 3) * (2 if inverse else 1)
                pieces.append(piece)
    expected = edges.tolist()
    if inverse:
        expected += [[rhs, rel + 2, lhs] for lhs, rel, rhs in expected]
    assert sorted(np.concatenate(pieces).tolist()) == sorted(expected)


def test_each_turn_reads_in_another_order_and_twice_the_same(tmp_path):
    graph = make_graph(tmp_path)
    write_edges(graph, "train", 0, all_edges())
    layout = Layout(graph, 3, 2, frozenset())
    visit = visits(3, [0, 1], np.random.default_rng(0))[0]

    def piece(turn):
        read = PartitionedEdges(str(tmp_path / "parts"), Edges(), layout, seed=0)
        return read.piece(visit, 0, 0, 1, turn).tolist()

    assert piece(0) == piece(0)
    assert piece(0) != piece(1)
    assert sorted(piece(0)) == sorted(piece(1))


def test_another_layout_sorts_edges_anew(tmp_path):
    graph = make_graph(tmp_path)
    write_edges(graph, "train", 0, all_edges())
    for layout in (
        Layout(graph, 3, 2, frozenset()),
        Layout(graph, 4, 2, frozenset()),
        Layout(graph, 4, 2, frozenset({"item"})),
    ):
        read = PartitionedEdges(str(tmp_path / "parts"), Edges(), layout, seed=0)
        visit = visits(layout.count, [0, 1], np.random.default_rng(0))[0]
        pairs = layout.pairs(all_edges()).tolist()
        visited = [tuple(pair) in visit.pairs for pair in pairs]
        piece = read.piece(visit, 0, 0, 1, turn=0)
        assert sorted(piece.tolist()) == sorted(all_edges()[visited].tolist())


def test_batches_are_full_and_go_on_where_they_were():
    edges = np.arange(15, dtype=np.int32).reshape(5, 3)
    batches = PieceBatches(2)
    batches.load(edges, 0)
    assert batches.count == 3
    read = np.concatenate([batches.get_next() for _ in range(3)])
    # The sixth is the first once more.
    np.testing.assert_array_equal(read, edges[[0, 1, 2, 3, 4, 0]])
    assert batches.done == 3
    batches.load(edges, 2)
    np.testing.assert_array_equal(batches.get_next(), edges[[4, 0]])
