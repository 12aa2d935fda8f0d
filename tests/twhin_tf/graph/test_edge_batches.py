"""Batches hold every edge once per epoch, in an order that the seed decides."""

import numpy as np
import pytest
import tensorflow as tf
from small_graphs import make_graph, ordered, random_edges, turned, two_files

from recap_tf.core.command import UserError
from recap_tf.core.training.shard import Shard
from twhin_tf.graph.edge_batches import (
    Edges,
    edges_per_epoch,
    read_edge_batches,
    read_edges,
)
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, Relation


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


def test_every_edge_once_per_epoch_and_turned_around(graph):
    edges = random_edges(10_000)
    assert edges_per_epoch(Edges(), graph) == 20_000
    dataset = read_edge_batches(Edges(), graph, 300)
    assert dataset.element_spec == tf.TensorSpec([300, 3], tf.int32)
    read = take(dataset, 60_000).reshape(3, 20_000, 3)
    for epoch in read:
        expected = np.concatenate([edges, turned(edges)])
        np.testing.assert_array_equal(ordered(epoch), ordered(expected))
    assert (read[0] != read[1]).any(axis=1).mean() > 0.9


@pytest.mark.parametrize("inverse", [False, True])
def test_no_edge_is_turned_where_inverses_are_not_wanted(tmp_path, inverse):
    graph = make_graph(tmp_path, inverse=inverse)
    edges = random_edges(50)
    write_edges(graph, "train", 0, edges)
    settings = Edges(inverse=False) if inverse else Edges()
    assert edges_per_epoch(settings, graph) == 50
    read = take(read_edge_batches(settings, graph, 7), 50)
    np.testing.assert_array_equal(ordered(read), ordered(edges))


def test_edges_of_relations_without_an_inverse_are_not_turned(tmp_path):
    extra = [Relation(name="liked", lhs="post", rhs="user", inverse_of="like")]
    graph = make_graph(tmp_path, inverse=False, extra=extra)
    edges = random_edges(5000)
    write_edges(graph, "train", 0, edges)
    likes = turned(edges[edges[:, 1] == 0])
    assert edges_per_epoch(Edges(), graph) == 5000 + len(likes)
    read = take(read_edge_batches(Edges(), graph, 100), 5000 + len(likes))
    expected = np.concatenate([edges, likes])
    np.testing.assert_array_equal(ordered(read), ordered(expected))


def test_edges_far_apart_come_together_in_an_order_of_the_seed(graph):
    first = np.stack([np.arange(300), np.zeros(300), np.zeros(300)], axis=1)
    edges = np.repeat(first, 100, axis=0).astype(int)
    write_edges(graph, "sorted", 0, edges)
    graph = Graph(
        folder=graph.folder,
        types=graph.types,
        relations=graph.relations,
        splits={"sorted": 30_000},
    )
    settings = Edges(split="sorted", inverse=False)
    read = take(read_edge_batches(settings, graph, 1000, seed=1), 30_000)
    for batch in np.split(read[:, 0], 30):
        # 1000 draws of 300: all but e^-3.3 of them are seen.
        assert len(np.unique(batch)) > 270
    same = take(read_edge_batches(settings, graph, 1000, seed=1), 30_000)
    np.testing.assert_array_equal(read, same)
    other = take(read_edge_batches(settings, graph, 1000, seed=2), 30_000)
    assert (read != other).any(axis=1).mean() > 0.9
    plain = Edges(split="sorted", inverse=False, shuffle=False)
    epochs = take(read_edge_batches(plain, graph, 1000), 60_000).reshape(2, -1, 3)
    np.testing.assert_array_equal(epochs[0], epochs[1])


def test_a_small_graph_has_another_order_in_every_epoch(tmp_path):
    graph = make_graph(tmp_path)
    write_edges(graph, "train", 0, random_edges(50))
    epochs = take(read_edge_batches(Edges(), graph, 10), 300).reshape(3, 100, 3)
    for first, second in ((0, 1), (1, 2), (0, 2)):
        assert (epochs[first] != epochs[second]).any(axis=1).mean() > 0.9


def test_evaluation_reads_every_edge_once_and_none_turned(graph):
    batches = list(read_edge_batches(Edges(), graph, 4096, training=False))
    assert [len(batch) for batch in batches] == [4096, 4096, 10_000 - 8192]
    read = np.concatenate([batch.numpy() for batch in batches])
    np.testing.assert_array_equal(ordered(read), ordered(random_edges(10_000)))


@pytest.mark.parametrize(
    "offset, limit, window",
    [(0, 5, slice(5)), (6998, 4, slice(6998, 7002)), (9990, None, slice(9990, None))],
)
def test_limit_and_offset_are_of_the_files_order(graph, offset, limit, window):
    settings = Edges(offset=offset, limit=limit)
    expected = random_edges(10_000)[window]
    np.testing.assert_array_equal(read_edges(settings, graph), expected)
    read = take(read_edge_batches(settings, graph, 2, training=False), 10_000)
    np.testing.assert_array_equal(ordered(read), ordered(expected))


def test_a_window_without_edges_is_refused(graph):
    with pytest.raises(UserError, match=r"Edges.offset = 10000 and limit = None leave"):
        read_edge_batches(Edges(offset=10_000), graph, 5)


def test_the_position_is_saved_to_the_bit(graph, tmp_path):
    iterator = iter(read_edge_batches(Edges(), graph, 300, seed=5))
    checkpoint = tf.train.Checkpoint(iterator=iterator)
    for _ in range(70):  # into the second epoch
        next(iterator)
    path = checkpoint.save(str(tmp_path / "position"))
    expected = [next(iterator).numpy() for _ in range(140)]
    other = iter(read_edge_batches(Edges(), graph, 300, seed=5))
    tf.train.Checkpoint(iterator=other).restore(path)
    for batch in expected:
        np.testing.assert_array_equal(next(other), batch)


def test_pipelines_share_the_edges_out(graph):
    parts = [
        take(read_edge_batches(Edges(), graph, 10, shard=Shard(i, 3)), size)
        for i, size in enumerate((6668, 6666, 6666))
    ]
    expected = random_edges(10_000)
    expected = np.concatenate([expected, turned(expected)])
    np.testing.assert_array_equal(ordered(np.concatenate(parts)), ordered(expected))
    with pytest.raises(ValueError, match="10000 edges cannot be shared out to 10001"):
        read_edge_batches(Edges(), graph, 1, shard=Shard(0, 10_001))


def test_a_data_service_reads_every_edge(graph):
    service = tf.data.experimental.service
    dispatcher = service.DispatchServer()
    address = dispatcher.target.split("://")[1]
    workers = [
        service.WorkerServer(service.WorkerConfig(dispatcher_address=address))
        for _ in range(2)
    ]
    settings = Edges(data_service=dispatcher.target)
    dataset = read_edge_batches(settings, graph, 100, training=False)
    read = np.concatenate([batch.numpy() for batch in dataset])
    np.testing.assert_array_equal(ordered(read), ordered(random_edges(10_000)))
    epoch = take(read_edge_batches(settings, graph, 500), 40_000)
    expected = np.unique(
        np.concatenate([random_edges(10_000), turned(random_edges(10_000))]), axis=0
    )
    # One worker may be ahead of the other; none leaves any out for long.
    assert len(np.unique(epoch, axis=0)) > 0.9 * len(expected)
    del workers


@pytest.mark.parametrize(
    "settings, message",
    [
        (
            {"limit": 0},
            "Edges.limit must be at least 1, or None for all edges. Received: 0",
        ),
        ({"offset": -1}, "Edges.offset must be at least 0. Received: -1"),
        ({"shuffle_blocks": 0}, "Edges.shuffle_blocks must be at least 1. Received: 0"),
    ],
)
def test_settings_out_of_range_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Edges(**settings)
