"""Ranks against brute force, ties, filters, both ways to rank heads, popularity."""

import numpy as np
import pyarrow as pa
import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.row_files import write_parquet
from twhin_tf.evaluation.evaluator import (
    LinkPredictionSettings,
    evaluate,
    format_report,
    summary,
)
from twhin_tf.evaluation.filtered_ranks import Blocks, rank_edges
from twhin_tf.evaluation.known_answers import KnownAnswers, read_known_answers
from twhin_tf.evaluation.popularity import Popularity
from twhin_tf.graph.graph import Graph, NodeType, Relation, with_inverses

ROWS = {"user": 9, "tag": 5}
BASE = [
    Relation(name="follow", lhs="user", rhs="user"),
    Relation(name="use", lhs="user", rhs="tag"),
]


class Tables:
    """Translations and dot products on numpy arrays."""

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
    """Raw and filtered ranks by a loop over candidates."""
    true = set(map(tuple, all_edges.tolist()))

    def score(lhs, number, rhs):
        relation = graph.relations[number]
        a, b = model.tables[relation.lhs][lhs], model.tables[relation.rhs][rhs]
        return (a + model.translations[number]) @ b

    found = []
    for lhs, number, rhs in edges.tolist():
        relation = graph.relations[number]
        own = rhs if side == "tail" else lhs
        candidates = ROWS[relation.rhs if side == "tail" else relation.lhs]
        scores, is_true = [], []
        for node in range(candidates):
            edge = (lhs, number, node) if side == "tail" else (node, number, rhs)
            if side == "head" and inverse:
                scores.append(score(rhs, graph.inverses[number], node))
            else:
                scores.append(score(*edge))
            is_true.append(edge in true)
        scores = np.array(scores)
        ranks = []
        for left_out in (np.zeros(candidates, bool), np.array(is_true)):
            others = [s for n, s in enumerate(scores) if n != own and not left_out[n]]
            others = np.array(others)
            ahead = (others > scores[own]).sum() + (others == scores[own]).sum() / 2
            ranks.append(1 + ahead)
        found.append(ranks)
    return np.array(found).T


@pytest.mark.parametrize(
    "blocks",
    [Blocks(), Blocks(queries=7, edges=3, candidates=2)],
    ids=["at once", "in blocks"],
)
@pytest.mark.parametrize("inverse", [True, False])
def test_ranks_are_those_of_brute_force(blocks, inverse):
    rng = np.random.default_rng(0)
    graph = graph_of(relations=with_inverses(BASE))
    model = random_tables(rng, graph.relations)
    edges, others = random_edges(rng, 30), random_edges(rng, 40)
    all_edges = np.concatenate([edges, others, others])
    known = read_known_answers(edges, [all_edges[:50], all_edges[50:]])
    ranks = rank_edges(model, graph, edges, known, inverse=inverse, blocks=blocks)
    for side in ("tail", "head"):
        raw, filtered = brute_force(model, graph, edges, all_edges, side, inverse)
        np.testing.assert_array_equal(ranks[side].raw, raw)
        np.testing.assert_array_equal(ranks[side].filtered, filtered)
    assert (raw != filtered).any() and (raw % 1 != 0).any()


def test_equal_scores_share_the_mean_of_their_ranks():
    graph = graph_of(relations=BASE)
    model = random_tables(np.random.default_rng(0), BASE)
    model.tables = {name: np.ones((n, 4)) for name, n in ROWS.items()}
    edges = np.array([[0, 0, 1], [0, 0, 2], [3, 1, 4]])
    ranks = rank_edges(model, graph, edges, read_known_answers(edges, [edges]))
    # 9 users and 5 tags: the middle of all. Filtered, one user less.
    np.testing.assert_array_equal(ranks["tail"].raw, [5, 5, 3])
    np.testing.assert_array_equal(ranks["tail"].filtered, [4.5, 4.5, 3])
    np.testing.assert_array_equal(ranks["tail"].candidates, [8, 8, 5])


@pytest.mark.parametrize("size", [1, 3, 40, 64])
def test_copies_of_a_vector_tie_wherever_they_are(size):
    # Products in blocks of any size have to give the same bits.
    rng = np.random.default_rng(1)
    vectors = np.tile(rng.normal(size=(1, 100)), (size, 1))
    graph = graph_of(relations=[BASE[0]], rows={"user": size})
    model = Tables({"user": vectors}, rng.normal(size=(1, 100)))
    edges = np.array([[0, 0, row] for row in range(size)])
    known = {side: KnownAnswers(edges, side).finish() for side in ("tail", "head")}
    # Among them blocks of a single edge, and of a single candidate.
    for blocks in (Blocks(), Blocks(queries=9, edges=4, candidates=21)):
        ranks = rank_edges(model, graph, edges, known, blocks=blocks)
        np.testing.assert_array_equal(ranks["tail"].raw, (size + 1) / 2)


def test_known_answers_of_an_edge_leave_out_its_own():
    edges = np.array([[0, 0, 1], [0, 0, 4], [2, 1, 4]])
    known = KnownAnswers(edges, "tail")
    known.add(np.array([[0, 0, 1], [0, 0, 7], [0, 1, 3], [5, 0, 2]]))
    known.add(np.array([[0, 0, 7], [0, 0, 4], [2, 1, 4]]))
    known.finish()
    place, candidate = known.between(edges, 0, 10)
    assert place.tolist() == [0, 0, 1, 1]
    assert candidate.tolist() == [4, 7, 1, 7]
    assert [x.tolist() for x in known.between(edges, 5, 10)] == [[0, 1], [7, 7]]


def test_popularity_ranks_by_training_edges_of_the_relation():
    graph = graph_of()
    # Tails of relation 0: node 3 twice, node 5 once; relation 1 has other habits.
    training = np.array([[0, 0, 3], [1, 0, 3], [2, 0, 5], [0, 1, 4], [1, 1, 4]])
    popularity = Popularity([training[:2], training[2:]])
    edges = np.array([[0, 0, 5], [0, 0, 8], [8, 0, 5], [8, 1, 4], [8, 1, 0]])
    known = read_known_answers(edges, [training, edges])["tail"]
    raw, filtered = popularity.ranks(graph, edges, "tail", known)
    # Behind nodes 3 and 5 there are 7 equal ones.
    np.testing.assert_array_equal(raw, [2, 6, 2, 1, 3.5])
    # Node 0 has edges to 3, 5 and 8: only the other six of the equal are left.
    np.testing.assert_array_equal(filtered, [1, 4, 2, 1, 2.5])


def test_summary_of_ranks_by_hand():
    found = summary(np.array([1, 2, 4, 20.0]))
    assert found["mrr"] == pytest.approx((1 + 0.5 + 0.25 + 0.05) / 4)
    assert found["mean_rank"] == 6.75
    assert [found[f"hits@{k}"] for k in (1, 3, 10, 50)] == [0.25, 0.5, 0.75, 1.0]
    assert found["mrr_error"] == pytest.approx(np.std([1, 0.5, 0.25, 0.05], ddof=1) / 2)
    assert summary(np.array([2.0]))["mrr_error"] is None


def write_graph_folder(folder, edges):
    splits = {split: len(rows) for split, rows in edges.items()}
    graph = graph_of(folder, with_inverses(BASE), splits=splits)
    for split, rows in edges.items():
        (folder / split).mkdir()
        columns = zip(
            ("lhs", "rel", "rhs"), np.array(rows).T.reshape(3, -1), strict=True
        )
        table = pa.table({name: column.astype(np.int64) for name, column in columns})
        write_parquet(str(folder / split / "edges-00000.parquet"), table)
    return graph


def test_report(tmp_path):
    rng = np.random.default_rng(0)
    edges = {
        "train": random_edges(rng, 40),
        "validation": random_edges(rng, 10),
        "test": random_edges(rng, 20),
    }
    graph = write_graph_folder(tmp_path, edges)
    model = random_tables(rng, graph.relations)
    report = evaluate(model, graph, LinkPredictionSettings())
    assert report["edges"] == 20 and set(report["relations"]) == {"follow", "use"}
    every = np.concatenate(list(edges.values()))
    ranks = {
        side: brute_force(model, graph, edges["test"], every, side, True)
        for side in ("tail", "head")
    }
    ranks["both"] = np.concatenate([ranks["tail"], ranks["head"]], axis=1)
    for side, (raw, filtered) in ranks.items():
        found = report["overall"][side]
        assert found["mrr"] == pytest.approx((1 / filtered).mean())
        assert found["raw"]["hits@3"] == (raw <= 3).mean()
        assert found["edges"] == len(raw)
        assert found["candidates"] < 9 and 0 < found["popularity"]["mrr"] <= 1
    of_use = edges["test"][:, 1] == 1
    found = report["relations"]["use"]["tail"]
    assert found["mean_rank"] == pytest.approx(ranks["tail"][1][of_use].mean())
    assert "use" in format_report(report) and "and 1 more" in format_report(report, 1)
    # Without the other splits there is less to leave out.
    alone = evaluate(model, graph, LinkPredictionSettings(filter_splits=("test",)))
    assert alone["overall"]["both"]["mrr"] < report["overall"]["both"]["mrr"]
    few = evaluate(model, graph, LinkPredictionSettings(limit=5, popularity=False))
    assert few["edges"] == 5 and "popularity" not in few["overall"]["tail"]


def test_auc_of_a_perfect_and_of_a_blind_model(tmp_path):
    # Users 0 to 8 follow themselves alone.
    edges = [[node, 0, node] for node in range(9)] * 4
    graph = write_graph_folder(tmp_path, {"test": edges})
    model = Tables({"user": np.eye(9)}, np.zeros((4, 9)))
    settings = LinkPredictionSettings(auc_negatives=200, popularity=False)
    # One random node in nine is the true one, which ties.
    found = evaluate(model, graph, settings)["overall"]["both"]
    assert found["auc"] == pytest.approx(1 - 0.5 / 9, abs=0.01)
    model.tables["user"] = np.ones((9, 9))
    assert evaluate(model, graph, settings)["overall"]["both"]["auc"] == 0.5


def test_bad_input_ends_in_one_line(tmp_path):
    with pytest.raises(
        ValueError, match=r"twhin\.evaluate\.limit must be at least 1. Received: 0"
    ):
        LinkPredictionSettings(limit=0)
    with pytest.raises(ValueError, match=r"Blocks\.edges must be at least 1"):
        Blocks(edges=0)
    graph = write_graph_folder(tmp_path, {"test": [[0, 0, 1]]})
    with pytest.raises(UserError, match="has no split 'train'"):
        evaluate(None, graph, LinkPredictionSettings(split="train"))
    model = Tables({"user": np.full((9, 2), np.nan)}, np.zeros((4, 2)))
    with pytest.raises(UserError, match="vectors of type 'user' are not all finite"):
        evaluate(model, graph, LinkPredictionSettings(popularity=False))
