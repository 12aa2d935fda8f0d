"""A report holds the metrics of all relations and sides; bad input ends in a line."""

import numpy as np
import pyarrow as pa
import pytest
from ranked_graphs import (
    BASE,
    Tables,
    brute_force,
    graph_of,
    random_edges,
    random_tables,
)

from recap_tf.core.command import UserError
from recap_tf.core.row_files import write_parquet
from twhin_tf.evaluation.evaluation_report import format_report
from twhin_tf.evaluation.evaluator import LinkPredictionSettings, evaluate
from twhin_tf.graph.graph import with_inverses


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


def test_the_report_holds_the_metrics_of_every_side_and_relation(tmp_path):
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
        metrics = report["overall"][side]
        assert metrics["mrr"] == pytest.approx((1 / filtered).mean())
        assert metrics["raw"]["hits@3"] == (raw <= 3).mean()
        assert metrics["edges"] == len(raw)
        assert metrics["candidates"] < 9 and 0 < metrics["popularity"]["mrr"] <= 1
    of_use = edges["test"][:, 1] == 1
    metrics = report["relations"]["use"]["tail"]
    assert metrics["mean_rank"] == pytest.approx(ranks["tail"][1][of_use].mean())
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
    metrics = evaluate(model, graph, settings)["overall"]["both"]
    assert metrics["auc"] == pytest.approx(1 - 0.5 / 9, abs=0.01)
    model.tables["user"] = np.ones((9, 9))
    assert evaluate(model, graph, settings)["overall"]["both"]["auc"] == 0.5


def test_bad_settings_splits_and_vectors_are_refused_in_one_line(tmp_path):
    with pytest.raises(
        ValueError,
        match=r"evaluate\.limit must be at least 1, or None for all edges. Received: 0",
    ):
        LinkPredictionSettings(limit=0)
    graph = write_graph_folder(tmp_path, {"test": [[0, 0, 1]]})
    with pytest.raises(UserError, match="has no split 'train'"):
        evaluate(None, graph, LinkPredictionSettings(split="train"))
    model = Tables({"user": np.full((9, 2), np.nan)}, np.zeros((4, 2)))
    with pytest.raises(UserError, match="vectors of type 'user' are not all finite"):
        evaluate(model, graph, LinkPredictionSettings(popularity=False))
