"""Partitions of node tables: order of visits, where rows are, files, edges."""

import itertools

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from twhin_tf.graph.edge_batches import Edges
from twhin_tf.graph.edge_files import write_edges
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses
from twhin_tf.partitions import partition_buffer, partition_files, partitioned_edges
from twhin_tf.partitions.partition_buffer import VECTOR, PartitionBuffer
from twhin_tf.partitions.partition_files import PartitionFiles, RowFormat
from twhin_tf.partitions.partition_layout import Layout, Partitions
from twhin_tf.partitions.partition_order import visits
from twhin_tf.partitions.partitioned_edges import PartitionedEdges, PieceBatches


def make_graph(folder="nowhere", users=10, items=7, inverse=False) -> Graph:
    relations = [
        Relation(name="buy", lhs="user", rhs="item"),
        Relation(name="know", lhs="user", rhs="user"),
    ]
    return Graph(
        folder=str(folder),
        types={
            "user": NodeType(name="user", rows=users),
            "item": NodeType(name="item", rows=items),
        },
        relations=with_inverses(relations) if inverse else relations,
        splits={"train": 0},
    )


@pytest.mark.parametrize(
    "partitions, buffer", [(2, 2), (3, 2), (8, 2), (4, 4), (5, 4), (8, 4), (16, 4)]
)
def test_visits_hold_every_pair_once(partitions, buffer):
    found = visits(partitions, range(buffer), np.random.default_rng(0))
    pairs = [pair for visit in found for pair in visit.pairs]
    every = [(a, b) for a in range(partitions) for b in range(a, partitions)]
    assert sorted(pairs) == every
    for visit in found:
        assert all(set(pair) <= set(visit.held) for pair in visit.pairs)


def test_two_visits_differ_by_one_swap_and_there_are_few():
    found = visits(16, range(4), np.random.default_rng(0))
    for before, after in itertools.pairwise(found):
        places = zip(before.held, after.held, strict=True)
        assert sum(a != b for a, b in places) == 1
    least = (16 * 15 / 2 - 4 * 3 / 2) / 3
    assert least <= len(found) - 1 <= 1.3 * least


def test_visits_begin_with_what_is_held():
    first = visits(5, [4, 1], np.random.default_rng(0))[0]
    assert first.held == (4, 1)
    assert first.pairs == ((1, 1), (1, 4), (4, 4))


def test_rows_are_dealt_out_by_turns():
    layout = Layout(make_graph(), 3, 2, frozenset())
    assert layout.place_rows("user") == 4
    assert layout.in_memory().rows == {"user": 8, "item": 6}
    # buy 5 -> 6: row 1 of partition 2, row 2 of partition 0.
    edges = np.array([[5, 0, 6], [9, 1, 2]], np.int32)
    assert layout.pairs(edges).tolist() == [[0, 2], [0, 2]]
    assert layout.to_memory(edges, [0, 2]).tolist() == [[5, 0, 2], [3, 1, 4]]


def test_an_end_of_a_whole_type_goes_with_the_other_end():
    layout = Layout(make_graph(), 3, 2, frozenset({"item"}))
    edges = np.array([[5, 0, 6], [9, 1, 2]], np.int32)
    assert layout.pairs(edges).tolist() == [[2, 2], [0, 2]]
    assert layout.to_memory(edges, [0, 2]).tolist() == [[5, 0, 6], [3, 1, 4]]
    assert layout.in_memory().rows == {"user": 8, "item": 7}


def test_the_limit_says_how_many_partitions_there_are():
    graph = make_graph(users=1000, items=400)
    row_bytes = {"user": 100, "item": 50}
    # 120 kB in all: 4 of 16 partitions are (63 * 100 + 25 * 50) * 4 = 30.2 kB.
    layout = Partitions(memory_limit_mb=0.0302).layout(graph, row_bytes)
    assert layout.count == 16
    assert Partitions(memory_limit_mb=1).layout(graph, row_bytes).count == 4
    whole = Partitions(memory_limit_mb=0.0452, whole=["item"])
    # 20 kB are left for 25.2 kB of 4 partitions.
    assert whole.layout(graph, row_bytes).count == 16


@pytest.mark.parametrize(
    "settings, message",
    [
        ({}, "one of memory_limit_mb and count. Received: None and None"),
        ({"count": 3, "memory_limit_mb": 1.0}, "Received: 1.0 and 3"),
        ({"count": 8, "buffer": 1}, "Partitions.buffer must be at least 2. Rec.*: 1"),
        ({"count": 8, "chunks": 0}, "Partitions.chunks must be at least 1. Rec.*: 0"),
        (
            {"count": 513},
            "Partitions.count must be at most 512, or None for what memory_limit_mb "
            "allows. Received: 513",
        ),
        ({"count": 3}, "must be at least Partitions.buffer = 4. Received: 3"),
    ],
)
def test_partitions_refuses(settings, message):
    with pytest.raises(ValueError, match=message):
        Partitions(**settings)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"count": 4, "whole": ["x"]}, "whole must name node .*'item'. Received: 'x'"),
        ({"count": 4, "whole": ["user", "item"]}, "must leave a node type"),
        ({"count": 8}, "'item' has 7 rows, fewer than 8 partitions"),
        (
            {"memory_limit_mb": 0.0001, "buffer": 2},
            "memory_limit_mb must be at least 0.00052 for a buffer of 2. "
            "Received: 0.0001",
        ),
    ],
)
def test_a_layout_refuses(settings, message):
    with pytest.raises(UserError, match=message):
        Partitions(**settings).layout(make_graph(), {"user": 100, "item": 60})


NORMAL = {"class_name": "RandomNormal", "config": {"stddev": 1.0, "seed": 3}}


def make_files(folder, storage="float32", count=3, initializer=NORMAL):
    layout = Layout(make_graph(), count, 2, frozenset())
    one = RowFormat(
        2, storage, {"accumulator": (2, 0.5), "seen": (0, 0.0)}, initializer
    )
    formats = {"user": one, "item": one}
    return PartitionFiles(str(folder), layout, formats, seed=1)


def make_buffer(files):
    variables = {}
    for name in files.formats:
        rows, one = files.layout.in_memory().rows[name], files.formats[name]
        variables[name] = {
            VECTOR: tf.Variable(tf.zeros([rows, 2], one.storage)),
            "accumulator": tf.Variable(tf.zeros([rows, 2])),
            "seen": tf.Variable(tf.zeros([rows])),
        }
    return PartitionBuffer(files, variables), variables


@pytest.fixture(params=[100, 3])
def chunk(request, monkeypatch):
    """Rows that are read, written or drawn at once: all of a partition, or fewer."""
    for module in (partition_files, partition_buffer):
        monkeypatch.setattr(module, "CHUNK", request.param)


@pytest.mark.parametrize("storage", ["float32", "float16", "bfloat16"])
def test_what_is_swapped_out_comes_back_elsewhere(tmp_path, storage, chunk):
    buffer, variables = make_buffer(make_files(tmp_path, storage))
    buffer.fill([0, 1])
    for one in variables["user"].values():
        numbers = np.arange(one.shape.num_elements()).reshape(one.shape)
        one.assign(tf.cast(numbers, one.dtype))
    buffer.touch()
    buffer.change([2, 1])
    buffer.change([2, 0])
    user = variables["user"]
    # Partition 0 was in rows 0 to 3, and is in 4 to 7.
    expected = np.arange(8).reshape(4, 2)
    np.testing.assert_array_equal(tf.cast(user[VECTOR][4:], tf.float32), expected)
    np.testing.assert_array_equal(user["accumulator"][4:], expected)
    np.testing.assert_array_equal(user["seen"][4:], [0, 1, 2, 3])
    # Partition 2, never there before, is as it starts.
    np.testing.assert_array_equal(user["accumulator"][:3], np.full((3, 2), 0.5))
    assert buffer.swaps == 2


def test_rows_start_otherwise_everywhere_and_the_same_every_time(tmp_path, chunk):
    files, again = make_files(tmp_path), make_files(tmp_path)
    other = {"class_name": "RandomNormal", "config": {"stddev": 1.0, "seed": 4}}
    drawn = [
        own.vectors(name, partition, np.arange(4 if name == "user" else 3))
        for own in (files, make_files(tmp_path, initializer=other))
        for name in ("user", "item")
        for partition in range(3)
    ]
    assert len(np.unique(np.concatenate(drawn))) == 2 * (3 * 4 + 3 * 3) * 2
    np.testing.assert_array_equal(
        again.vectors("user", 2, np.array([1])), drawn[2][1:2]
    )


def test_the_last_row_of_a_shorter_partition_is_kept(tmp_path):
    """No node's, it is a negative like any other: a run that goes on needs it."""
    files = make_files(tmp_path)
    buffer, variables = make_buffer(files)
    buffer.fill([1, 2])
    # 10 users, 4 of them in partition 0: row 3 of partition 2 would be user 11.
    variables["user"][VECTOR].assign(tf.fill([8, 2], 5.0))
    buffer.touch()
    buffer.flush()
    again, others = make_buffer(files)
    again.fill([2, 0])
    np.testing.assert_array_equal(others["user"][VECTOR][3], [5.0, 5.0])
    files.check_complete("user")


def test_old_versions_stay_as_long_as_something_refers_to_them(tmp_path):
    files = make_files(tmp_path)
    buffer, variables = make_buffer(files)
    buffer.fill([0, 1])
    buffer.touch()
    buffer.flush()
    first = {name: list(own) for name, own in files.versions.items()}
    before = files.vectors("user", 0, np.arange(4))
    variables["user"][VECTOR].assign(tf.ones([8, 2]))
    buffer.touch()
    buffer.flush()
    files.remove_all_but([first])
    assert len(list(tmp_path.glob("user/*.bin"))) == 4
    np.testing.assert_array_equal(
        files.vectors("user", 0, np.arange(4)), np.ones((4, 2))
    )
    files.go_on_from(first)
    np.testing.assert_array_equal(files.vectors("user", 0, np.arange(4)), before)
    # What is written next is no version that something refers to.
    buffer.touch()
    buffer.flush()
    files.go_on_from(first)
    np.testing.assert_array_equal(files.vectors("user", 0, np.arange(4)), before)
    files.remove_all_but([])
    assert len(list(tmp_path.glob("user/*.bin"))) == 2
    next(tmp_path.glob("user/*.bin")).unlink()
    with pytest.raises(UserError, match=r"rows of type 'user', .* Received: no file"):
        files.check_complete("user")


def test_files_refuse_what_they_cannot_do(tmp_path):
    with pytest.raises(
        UserError, match=r"folder must be on this.*Received: 'gs://b/a'"
    ):
        make_files("gs://b/a")
    with pytest.raises(UserError, match=r"type 'user' must not go by.*glorot_uniform"):
        make_files(tmp_path, initializer="glorot_uniform")


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
    found = []
    for chunk in range(chunks):
        for visit in visits(3, [0, 1], np.random.default_rng(chunk)):
            for number in range(read.piece_count(visit, chunks)):
                piece = read.piece(visit, number, chunk, chunks, turn=chunk)
                assert set(np.unique(piece[:, [0, 2]] % 3)) <= set(visit.held)
                # Shares of three pairs are rounded; turned edges come on top.
                assert len(piece) <= (most + 3) * (2 if inverse else 1)
                found.append(piece)
    expected = edges.tolist()
    if inverse:
        expected += [[rhs, rel + 2, lhs] for lhs, rel, rhs in expected]
    assert sorted(np.concatenate(found).tolist()) == sorted(expected)


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
        own = [tuple(p) in visit.pairs for p in layout.pairs(all_edges()).tolist()]
        found = read.piece(visit, 0, 0, 1, turn=0)
        assert sorted(found.tolist()) == sorted(all_edges()[own].tolist())


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
