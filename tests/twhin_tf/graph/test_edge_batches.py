import os

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.training.shard import Shard
from twhin_tf.graph.edge_batches import (
    Edges,
    edges_per_epoch,
    read_edge_batches,
    read_edges,
)
from twhin_tf.graph.edge_buckets import EdgeBuckets
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.edge_hashes import mix
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses

USERS, POSTS = 300, 200


def make_graph(folder, *, inverse=True, extra=()):
    relations = [
        Relation(name="like", lhs="user", rhs="post"),
        Relation(name="follow", lhs="user", rhs="user"),
    ]
    return Graph(
        folder=str(folder),
        types={
            "user": NodeType(name="user", rows=USERS),
            "post": NodeType(name="post", rows=POSTS),
        },
        relations=[*(with_inverses(relations) if inverse else relations), *extra],
        splits={"train": 0},
    )


def random_edges(count, seed=0):
    rng = np.random.default_rng(seed)
    rel = rng.integers(2, size=count)
    rhs = rng.integers(np.where(rel == 0, POSTS, USERS))
    return np.stack([rng.integers(USERS, size=count), rel, rhs], axis=1)


def turned(edges):
    """`edges` as those of the inverse relations."""
    return np.stack([edges[:, 2], edges[:, 1] + 2, edges[:, 0]], axis=1)


@pytest.fixture
def graph(tmp_path):
    """Two files, 10,000 edges: three blocks, of which the last is not full."""
    graph = make_graph(tmp_path)
    edges = random_edges(10_000)
    write_edges(graph, "train", 0, edges[:7000])
    write_edges(graph, "train", 1, edges[7000:])
    return graph


def take(dataset, edges):
    """The first `edges` of a data set of batches."""
    found, seen = [], 0
    for batch in dataset:
        found.append(batch.numpy())
        seen += len(batch)
        if seen >= edges:
            break
    return np.concatenate(found)[:edges]


def ordered(edges):
    return edges[np.lexsort(edges.T)]


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
def test_without_inverses(tmp_path, inverse):
    graph = make_graph(tmp_path, inverse=inverse)
    edges = random_edges(50)
    write_edges(graph, "train", 0, edges)
    settings = Edges(inverse=False) if inverse else Edges()
    assert edges_per_epoch(settings, graph) == 50
    read = take(read_edge_batches(settings, graph, 7), 50)
    np.testing.assert_array_equal(ordered(read), ordered(edges))


def test_only_some_relations_have_an_inverse(tmp_path):
    extra = [Relation(name="liked", lhs="post", rhs="user", inverse_of="like")]
    graph = make_graph(tmp_path, inverse=False, extra=extra)
    edges = random_edges(5000)
    write_edges(graph, "train", 0, edges)
    likes = turned(edges[edges[:, 1] == 0])
    assert edges_per_epoch(Edges(), graph) == 5000 + len(likes)
    read = take(read_edge_batches(Edges(), graph, 100), 5000 + len(likes))
    expected = np.concatenate([edges, likes])
    np.testing.assert_array_equal(ordered(read), ordered(expected))


def test_the_order_is_random(graph):
    """Edges far apart in the files come together, and the seed says how."""
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
    for one, two in ((0, 1), (1, 2), (0, 2)):
        assert (epochs[one] != epochs[two]).any(axis=1).mean() > 0.9


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


def test_a_window_that_holds_nothing(graph):
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


def test_a_data_service_reads(graph):
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


def test_the_cache_may_be_elsewhere(graph, tmp_path):
    settings = Edges(cache_folder=str(tmp_path / "cache"))
    read_edge_batches(settings, graph, 5)
    assert not os.path.exists(os.path.join(graph.folder, "train", ".packed"))
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"Edges.cache_folder = .*cannot be written"):
        read_edge_batches(Edges(cache_folder=str(tmp_path / "file")), graph, 5)


def test_files_of_another_program(graph):
    """Any whole numbers will do, in any order of columns; no fingerprint is needed."""
    table = pa.table({
        "rhs": pa.array([1], pa.int8()),
        "rel": pa.array([0], pa.uint16()),
        "note": ["x"],
        "lhs": pa.array([2], pa.int32()),
    })  # fmt: skip
    path = os.path.join(graph.folder, "train", "a.parquet")
    pq.write_table(table, path)
    assert read_edges(Edges(limit=1), graph).tolist() == [[2, 0, 1]]


@pytest.mark.parametrize(
    "edge, message",
    [
        ((300, 0, 0), "row 2: lhs must be at least 0 and below 300, the rows of table "
         "'user'. Received: 300"),
        ((0, 0, 200), "row 2: rhs must be .* below 200, .* 'post'. Received: 200"),
        ((0, 1, 299), None),
        ((-1, 0, 0), "lhs must be at least 0 .* Received: -1"),
        ((2**32, 0, 0), "lhs must be .* Received: 4294967296"),
        ((0, 4, 0), "row 2: rel must be at least 0 and below 4, .* Received: 4"),
        ((0, -1, 0), "rel must be at least 0 .* Received: -1"),
        ((0, 2, 0), "rel must be a relation that is stored; 'like/inverse' is made "
         "from 'like'. Received: 2"),
        ((None, 0, 0), "row 2: column 'lhs' has a missing value"),
    ],
)  # fmt: skip
def test_edges_that_are_not_of_the_graph(graph, edge, message):
    columns = zip((0, 0, 0), edge, (0, 1, 0), strict=True)
    table = pa.table([pa.array(c, pa.int64()) for c in columns], ["lhs", "rel", "rhs"])
    path = os.path.join(graph.folder, "train", "a.parquet")
    pq.write_table(table, path)
    if message is None:
        assert len(read_edges(Edges(), graph)) == 10_003
        return
    with pytest.raises(UserError, match=f"a.parquet.*{message}"):
        read_edge_batches(Edges(), graph, 5)
    assert not [n for n in os.listdir(f"{graph.folder}/train/.packed") if n[0] == "."]


@pytest.mark.parametrize(
    "columns, message",
    [
        ({"lhs": [], "rel": [], "rhs": []}, "a.parquet has no rows"),
        ({"lhs": [0], "rel": [0]}, "a.parquet has no column 'rhs'"),
        ({"lhs": ["0"], "rel": [0], "rhs": [0]}, "column 'lhs' .* Received: text"),
        ({"lhs": [0], "rel": [0.0], "rhs": [0]}, "column 'rel' .* Received: number"),
        (
            {"lhs": pa.array([2**63], pa.uint64()), "rel": [0], "rhs": [0]},
            r"row 1: lhs must be at least 0 and below 2\^63. Received: 92233720",
        ),
    ],
)
def test_columns_that_cannot_be(graph, columns, message):
    if not len(columns["lhs"]):
        columns = {name: pa.array([], pa.int64()) for name in columns}
    pq.write_table(pa.table(columns), os.path.join(graph.folder, "train", "a.parquet"))
    with pytest.raises(UserError, match=message):
        read_edges(Edges(), graph)


def test_edges_of_other_vocabularies(graph):
    types = dict(graph.types, user=NodeType(name="user", rows=USERS + 1))
    other = Graph(
        folder=graph.folder,
        types=types,
        relations=graph.relations,
        splits=graph.splits,
    )
    with pytest.raises(UserError, match="does not belong to the vocabularies of"):
        read_edge_batches(Edges(), other, 5)


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
def test_settings_that_cannot_be(settings, message):
    with pytest.raises(ValueError, match=message):
        Edges(**settings)


@pytest.mark.parametrize("largest", [6, 2**31 - 1])
def test_buckets_hold_each_edge_once_and_find_equal_ones(tmp_path, largest):
    large = [largest, 1, largest]
    edges = np.array([[1, 0, 2], [3, 0, 4], [1, 0, 2], large, [1, 0, 2]])
    expected = {"pass": (edges, 0), "count": (edges, 2), "drop": (edges[[0, 1, 3]], 2)}
    for equal, (kept, repeated) in expected.items():
        with EdgeBuckets(str(tmp_path / "b"), 2, seed=0) as buckets:
            for part in (edges[:2], edges[2:]):
                buckets.add(part, mix(part[:, 0]))
            read = list(buckets.read(equal))
            again = list(buckets.read(equal))
        found = np.concatenate([part for part, _ in read])
        np.testing.assert_array_equal(ordered(found), ordered(kept))
        assert sum(count for _, count in read) == repeated
        for (one, _), (two, _) in zip(read, again, strict=True):
            np.testing.assert_array_equal(one, two)
        assert not (tmp_path / "b").exists()
