"""A graph of users and posts with random edges, to test reading them with."""

import numpy as np

from twhin_tf.graph.edge_files import write_edges
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
    """Turns edges around, into those of the inverse relations."""
    return np.stack([edges[:, 2], edges[:, 1] + 2, edges[:, 0]], axis=1)


def two_files(folder):
    """Writes 10,000 edges in two files: three blocks, of which the last is not full."""
    graph = make_graph(folder)
    edges = random_edges(10_000)
    write_edges(graph, "train", 0, edges[:7000])
    write_edges(graph, "train", 1, edges[7000:])
    return graph


def ordered(edges):
    return edges[np.lexsort(edges.T)]
