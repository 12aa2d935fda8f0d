"""Rows are dealt out to partitions by turns, as many as the limit allows."""

import numpy as np
import pytest
from partitioned_graphs import make_graph

from recap_tf.core.command import UserError
from twhin_tf.partitions.partition_layout import Layout, Partitions


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
def test_settings_out_of_range_are_refused(settings, message):
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
def test_settings_that_do_not_fit_the_graph_are_refused(settings, message):
    with pytest.raises(UserError, match=message):
        Partitions(**settings).layout(make_graph(), {"user": 100, "item": 60})
