"""How well a model predicts held-out edges: metrics per relation and overall."""

import dataclasses
import itertools
from collections.abc import Mapping
from typing import Any

import gin
import numpy as np

from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from twhin_tf.evaluation.edge_scorers import EdgeScorer
from twhin_tf.evaluation.filtered_ranks import Blocks, Ranks, rank_edges
from twhin_tf.evaluation.known_answers import SIDES, KnownAnswers, read_known_answers
from twhin_tf.evaluation.popularity import Popularity
from twhin_tf.evaluation.rank_metrics import rank_metrics, sampled_auc
from twhin_tf.graph.edge_batches import Edges, read_edges
from twhin_tf.graph.edge_files import read_split
from twhin_tf.graph.graph import Graph

BOTH = "both"


@gin.configurable("evaluate", module="twhin")
@dataclasses.dataclass(frozen=True, kw_only=True)
class LinkPredictionSettings:
    """How held-out edges are ranked.

    Args:
        split: whose edges are ranked; at the end of training too, if there are any.
        limit: only so many of them, the first ones, at least 1; None for all.
        filter_splits: edges that a filtered rank leaves out; None for those of all
            splits, as is usual.
        inverse: rank heads through inverse relations, where the graph has them.
        auc_negatives: random nodes scored for each edge and side, at least 1.
        popularity: also rank by how often a node is an end of the relation in "train".
        query_block, edge_block, candidate_block: see
            `twhin_tf.evaluation.filtered_ranks.Blocks`, which bound the memory.
        seed: of the random nodes, at least 0.
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
            check_range(f"twhin.evaluate.{name}", getattr(self, name), at_least=1)
        check_range("twhin.evaluate.limit", self.limit, at_least=1, none="all edges")
        check_range("twhin.evaluate.seed", self.seed, at_least=0)

    @property
    def blocks(self) -> Blocks:
        """The three bounds of the memory in one."""
        return Blocks(
            queries=self.query_block,
            edges=self.edge_block,
            candidates=self.candidate_block,
        )


def evaluate(
    scorer: EdgeScorer,
    graph: Graph,
    settings: LinkPredictionSettings,
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
        scorer: a trained model, see `twhin_tf.evaluation.edge_scorers.ModelScorer`.
        graph: that the model was trained on, or one with the same nodes.
        settings: which edges are ranked, and how.
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
    stored = itertools.chain.from_iterable(read_split(graph, name) for name in splits)
    known = read_known_answers(edges, stored)
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


def _popular_ranks(
    graph: Graph, edges: np.ndarray, known: Mapping[str, KnownAnswers]
) -> dict[str, np.ndarray]:
    popularity = Popularity(read_split(graph, "train"))
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
        parts = SIDES if name == BOTH else (name,)

        def joined(field: str, parts=parts) -> np.ndarray:
            fields = [getattr(ranks[part], field)[places] for part in parts]
            return np.concatenate(fields)

        sides[name] = side = {
            "edges": len(joined("raw")),
            "candidates": float(joined("candidates").mean()),
            **rank_metrics(joined("filtered")),
            "auc": sampled_auc(joined("scores"), joined("negative_scores"), seed),
            "raw": rank_metrics(joined("raw")),
        }
        if popular is not None:
            popular_ranks = [popular[part][places] for part in parts]
            side["popularity"] = rank_metrics(np.concatenate(popular_ranks))
    return sides
