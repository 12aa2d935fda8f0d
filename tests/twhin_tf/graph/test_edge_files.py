"""Files are read if they hold edges of the graph, and refused in one line if not."""

import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_graphs import (
    USERS,
    two_files,
)

from recap_tf.core.command import UserError
from twhin_tf.graph.edge_batches import (
    Edges,
    read_edge_batches,
    read_edges,
)
from twhin_tf.graph.graph import Graph, NodeType


@pytest.fixture
def graph(tmp_path):
    return two_files(tmp_path)


def test_files_of_another_program_are_read(graph):
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
def test_edges_that_are_not_of_the_graph_are_refused(graph, edge, message):
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
def test_columns_that_are_no_edges_are_refused(graph, columns, message):
    if not len(columns["lhs"]):
        columns = {name: pa.array([], pa.int64()) for name in columns}
    pq.write_table(pa.table(columns), os.path.join(graph.folder, "train", "a.parquet"))
    with pytest.raises(UserError, match=message):
        read_edges(Edges(), graph)


def test_edges_of_other_vocabularies_are_refused(graph):
    types = dict(graph.types, user=NodeType(name="user", rows=USERS + 1))
    other = Graph(
        folder=graph.folder,
        types=types,
        relations=graph.relations,
        splits=graph.splits,
    )
    with pytest.raises(UserError, match="does not belong to the vocabularies of"):
        read_edge_batches(Edges(), other, 5)


def test_the_mark_of_the_vocabularies_is_that_of_files_written_before(graph):
    path = graph.edge_files("train")[0]
    mark = pq.read_schema(path).metadata[b"twhin_tf.graph"]
    assert mark.decode() == graph.fingerprint
