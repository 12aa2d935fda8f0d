"""What an evaluation of held-out edges found, as a table for people."""

from collections.abc import Mapping
from typing import Any

from recap_tf.core.text_table import aligned
from twhin_tf.evaluation.rank_metrics import HITS


def format_report(report: Mapping[str, Any], most: int = 20) -> str:
    """Writes a report as a table.

    Args:
        report: see `twhin_tf.evaluation.evaluator.evaluate`.
        most: relations in the table, those with the most edges.
    """
    rows = [["relation", "side", "edges", "MRR", "mean rank"]]
    rows[0] += [f"hits@{k}" for k in HITS] + ["AUC", "raw MRR", "popularity MRR"]
    by_edges = sorted(
        report["relations"].items(), key=lambda item: -item[1]["tail"]["edges"]
    )
    for name, sides in [("overall", report["overall"]), *by_edges[:most]]:
        rows += [[name, side, *_cells(metrics)] for side, metrics in sides.items()]
    more = len(by_edges) - most
    return aligned(rows, 2) + (f"\nand {more} more relations" if more > 0 else "")


def _cells(metrics: Mapping[str, Any]) -> list[str]:
    """Writes the metrics of one side of a relation, column by column."""
    error = metrics["mrr_error"]
    popularity = metrics.get("popularity", {}).get("mrr")
    return [
        f"{metrics['edges']:,}",
        f"{metrics['mrr']:.4f}" + ("" if error is None else f" ±{error:.4f}"),
        f"{metrics['mean_rank']:.1f}",
        *(f"{metrics[f'hits@{k}']:.4f}" for k in HITS),
        f"{metrics['auc']:.4f}",
        f"{metrics['raw']['mrr']:.4f}",
        "-" if popularity is None else f"{popularity:.4f}",
    ]
