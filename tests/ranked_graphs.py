"""A small graph and scorer, and ranks by a loop over candidates, to test ranks with."""

import numpy as np
import tensorflow as tf

from twhin_tf.graph.graph import Graph, NodeType, Relation

ROWS = {"user": 9, "tag": 5}
BASE = [
    Relation(name="follow", lhs="user", rhs="user"),
    Relation(name="use", lhs="user", rhs="tag"),
]


class Tables:
    """A scorer of translations and dot products on numpy arrays."""

    def __init__(self, tables, translations):
        self.tables, self.translations = tables, translations

    def vectors(self, node_type, rows):
        return tf.constant(self.tables[node_type][rows], tf.float32)

    def transform(self, relation, vectors):
        return vectors + self.translations[relation].astype(np.float32)

    def prepare(self, vectors):
        return vectors


def graph_of(folder="", relations=BASE, rows=ROWS, splits=()):
    types = {name: NodeType(name=name, rows=count) for name, count in rows.items()}
    return Graph(
        folder=str(folder), types=types, relations=relations, splits=dict(splits)
    )


def random_tables(rng, relations, rows=ROWS, dim=4):
    # Whole numbers: exact products, and many ties.
    tables = {name: rng.integers(-1, 2, (n, dim)) for name, n in rows.items()}
    return Tables(tables, rng.integers(-1, 2, (len(relations), dim)))


def random_edges(rng, count):
    relation = rng.integers(2, size=count)
    rhs = np.where(
        relation == 0, rng.integers(9, size=count), rng.integers(5, size=count)
    )
    return np.stack([rng.integers(9, size=count), relation, rhs], axis=1)


def brute_force(model, graph, edges, all_edges, side, inverse):
    """Ranks by a loop over candidates; returns raw and filtered ranks, (2, edges)."""
    known = set(map(tuple, all_edges.tolist()))

    def score(lhs, number, rhs):
        relation = graph.relations[number]
        a, b = model.tables[relation.lhs][lhs], model.tables[relation.rhs][rhs]
        return (a + model.translations[number]) @ b

    ranks = []
    for lhs, number, rhs in edges.tolist():
        relation = graph.relations[number]
        true_node = rhs if side == "tail" else lhs
        candidates = ROWS[relation.rhs if side == "tail" else relation.lhs]
        scores, is_known = [], []
        for node in range(candidates):
            edge = (lhs, number, node) if side == "tail" else (node, number, rhs)
            if side == "head" and inverse:
                scores.append(score(rhs, graph.inverses[number], node))
            else:
                scores.append(score(*edge))
            is_known.append(edge in known)
        true_score = scores[true_node]
        raw_and_filtered = []
        for left_out in ([False] * candidates, is_known):
            others = [
                score
                for node, score in enumerate(scores)
                if node != true_node and not left_out[node]
            ]
            others = np.array(others)
            ahead = (others > true_score).sum() + (others == true_score).sum() / 2
            raw_and_filtered.append(1 + ahead)
        ranks.append(raw_and_filtered)
    return np.array(ranks).T
