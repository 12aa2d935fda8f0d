"""How well a model predicts held-out edges: metrics per relation and overall."""

import dataclasses
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import gin
import numpy as np

from recap_tf.core.command import UserError
from recap_tf.core.text_table import aligned
from twhin_tf.evaluation.filtered_ranks import Blocks, Ranks, rank_edges
from twhin_tf.evaluation.known_answers import SIDES, KnownAnswers, read_known_answers
from twhin_tf.evaluation.popularity import Popularity
from twhin_tf.evaluation.query_groups import EdgeScorer
from twhin_tf.graph.edge_batches import Edges, read_edges
from twhin_tf.graph.edge_files import read_split
from twhin_tf.graph.graph import Graph

HITS = (1, 3, 10, 50)
BOTH = "both"
_PAIRS = 100_000


@gin.configurable("evaluate", module="twhin")
@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How held-out edges are ranked.

    Args:
        split: whose edges are ranked; at the end of training too, if there are any.
        limit: only so many of them, the first ones; none for all.
        filter_splits: edges that a filtered rank leaves out; none for those of all
            splits, as is usual.
        inverse: rank heads through inverse relations, where the graph has them.
        auc_negatives: random nodes scored for each edge and side.
        popularity: also rank by how often a node is an end of the relation in "train".
        query_block, edge_block, candidate_block: see
            `twhin_tf.evaluation.filtered_ranks.Blocks`.
        seed: of the random nodes.
    """

    split: str = "test"
    limit: int | None = None
    filter_splits: tuple[str, ...] | None = None
    inverse: bool = True
    auc_negatives: int = 10
    popularity: bool = True
    query_block: int = Blocks.queries
    edge_block: int = Blocks.edges
    candidate_block: int = Blocks.candidates
    seed: int = 0

    def __post_init__(self):
        for name in ("auc_negatives", "query_block", "edge_block", "candidate_block"):
            _check_at_least_one(name, getattr(self, name))
        if self.limit is not None:
            _check_at_least_one("limit", self.limit)
        if self.seed < 0:
            raise ValueError(
                f"twhin.evaluate.seed cannot be negative. Received: {self.seed}"
            )

    @property
    def blocks(self) -> Blocks:
        return Blocks(
            queries=self.query_block,
            edges=self.edge_block,
            candidates=self.candidate_block,
        )


def _check_at_least_one(name: str, value: int) -> None:
    if value < 1:
        raise ValueError(f"twhin.evaluate.{name} must be at least 1. Received: {value}")


def evaluate(
    scorer: EdgeScorer,
    graph: Graph,
    settings: EvaluateSettings,
    *,
    progress: bool = False,
) -> dict[str, Any]:
    """Ranks the edges of a split; returns a report that is plain JSON.

        {"split": "test", "edges": 20466,
         "overall":   {"tail": side, "head": side, "both": side},
         "relations": {name: {"tail": side, "head": side, "both": side}}}

    with side = {"edges", "candidates", "mrr", "mrr_error", "mean_rank", "hits@1",
    "hits@3", "hits@10", "hits@50", "auc", "raw": {...}, "popularity": {...}}. Ranks
    are filtered, those under "raw" are not; "both" is over the ranks of both sides;
    "mrr_error" is the standard error of "mrr"; "auc" is the chance, over 100,000 random
    pairs, that an edge scores above one with a random end; "popularity" is the filtered
    rank by how often a node is an end of the relation in training.

    Args:
        scorer: the model.
        graph: where the edges are.
        settings: how.
        progress: show a bar on stderr.

    Raises:
        UserError: there is no such split, it has no edges, or a file is unfit.
    """
    edges = read_edges(Edges(split=settings.split, limit=settings.limit), graph)
    if not len(edges):
        raise UserError(
            f"twhin.evaluate.split = {settings.split!r}: {graph.folder} holds no such "
            "edges."
        )
    splits = graph.splits if settings.filter_splits is None else settings.filter_splits
    known = read_known_answers(
        edges, itertools.chain.from_iterable(_stored(graph, split) for split in splits)
    )
    ranks = rank_edges(
        scorer,
        graph,
        edges,
        known,
        inverse=settings.inverse,
        negatives=settings.auc_negatives,
        seed=settings.seed,
        blocks=settings.blocks,
        progress=progress,
    )
    popular = None
    if settings.popularity and "train" in graph.splits:
        popular = _popular_ranks(graph, edges, known)
    relations = {}
    for number in np.unique(edges[:, 1]).tolist():
        places = np.flatnonzero(edges[:, 1] == number)
        name = graph.relations[number].name
        relations[name] = _all_sides(ranks, popular, places, settings.seed)
    everything = np.arange(len(edges))
    return {
        "split": settings.split,
        "edges": len(edges),
        "overall": _all_sides(ranks, popular, everything, settings.seed),
        "relations": relations,
    }


def _stored(graph: Graph, split: str) -> Iterator[np.ndarray]:
    return read_split(graph, split, None, 0)


def _popular_ranks(
    graph: Graph, edges: np.ndarray, known: Mapping[str, KnownAnswers]
) -> dict[str, np.ndarray]:
    popularity = Popularity(_stored(graph, "train"))
    return {
        side: popularity.ranks(graph, edges, side, known[side])[1] for side in SIDES
    }


def _all_sides(
    ranks: Mapping[str, Ranks],
    popular: Mapping[str, np.ndarray] | None,
    places: np.ndarray,
    seed: int,
) -> dict[str, Any]:
    sides = {}
    for name in (*SIDES, BOTH):
        parts = [ranks[side] for side in (SIDES if name == BOTH else (name,))]

        def joined(field: str, parts=parts) -> np.ndarray:
            return np.concatenate([getattr(part, field)[places] for part in parts])

        sides[name] = side = {
            "edges": len(joined("raw")),
            "candidates": float(joined("candidates").mean()),
            **summary(joined("filtered")),
            "auc": _sampled_auc(joined("scores"), joined("negative_scores"), seed),
            "raw": summary(joined("raw")),
        }
        if popular is not None:
            own = SIDES if name == BOTH else (name,)
            side["popularity"] = summary(
                np.concatenate([popular[side][places] for side in own])
            )
    return sides


def summary(ranks: np.ndarray) -> dict[str, float | None]:
    """Mean reciprocal rank and its standard error, mean rank, hits@k of (n,) ranks."""
    reciprocal, error = 1 / ranks, None
    if len(ranks) > 1:
        error = float(reciprocal.std(ddof=1) / math.sqrt(len(ranks)))
    return {
        "mrr": float(reciprocal.mean()),
        "mrr_error": error,
        "mean_rank": float(ranks.mean()),
        **{f"hits@{k}": float((ranks <= k).mean()) for k in HITS},
    }


def _sampled_auc(scores: np.ndarray, negatives: np.ndarray, seed: int) -> float:
    """Chance that an edge scores above another edge with a random end."""
    # The streaming metric of the same name takes half a minute for 237 relations.
    rng = np.random.default_rng(seed)
    drawn = rng.choice(scores, _PAIRS), rng.choice(negatives.reshape(-1), _PAIRS)
    return float((drawn[0] > drawn[1]).mean() + (drawn[0] == drawn[1]).mean() / 2)


def format_report(report: Mapping[str, Any], most: int = 20) -> str:
    """The report as a table; the relations with the most edges, at most so many."""
    rows = [["relation", "side", "edges", "MRR", "mean rank"]]
    rows[0] += [f"hits@{k}" for k in HITS] + ["AUC", "raw MRR", "popularity MRR"]
    by_edges = sorted(
        report["relations"].items(), key=lambda item: -item[1]["tail"]["edges"]
    )
    for name, sides in [("overall", report["overall"]), *by_edges[:most]]:
        for side, found in sides.items():
            error = found["mrr_error"]
            popular = found.get("popularity", {}).get("mrr")
            rows.append(
                [
                    name,
                    side,
                    f"{found['edges']:,}",
                    f"{found['mrr']:.4f}" + ("" if error is None else f" ±{error:.4f}"),
                    f"{found['mean_rank']:.1f}",
                    *(f"{found[f'hits@{k}']:.4f}" for k in HITS),
                    f"{found['auc']:.4f}",
                    f"{found['raw']['mrr']:.4f}",
                    "-" if popular is None else f"{popular:.4f}",
                ]
            )
    more = len(by_edges) - most
    return aligned(rows, 2) + (f"\nand {more} more relations" if more > 0 else "")
