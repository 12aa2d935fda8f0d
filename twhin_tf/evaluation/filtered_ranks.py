"""Link prediction: the rank of the true node among all candidates of its type.

    tail    (lhs, relation, ?): all nodes of the relation's rhs type are candidates
    head    (?, relation, rhs): all nodes of its lhs type
    rank    1 + candidates that score higher + half of the others that score the same

so that ties are at their mean rank. Raw ranks are among all candidates, filtered ranks
(Bordes et al. 2013) without those that are true too.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from twhin_tf.evaluation.known_answers import SIDES, KnownAnswers, ends_of
from twhin_tf.evaluation.query_groups import EdgeScorer, QueryGroup, query_groups
from twhin_tf.graph.graph import Graph


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """How much is held at once.

        bytes = 4 * (edges * candidates + dim * (2 * queries + candidates))
                + 16 * (pairs of an edge and a known answer in one block)

    besides the edges, 40 bytes each, and `KnownAnswers`. With the defaults and width
    128, 190 MB, for any number of edges and candidates; the last term is at most four
    times the first.

    Args:
        queries: vectors of queries computed at once, and kept while the candidates
            pass by.
        edges: of a block of scores.
        candidates: of a block of scores.
    """

    queries: int = 131_072
    edges: int = 256
    candidates: int = 32_768

    def __post_init__(self):
        for name in ("queries", "edges", "candidates"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"Blocks.{name} must be at least 1. Received: {getattr(self, name)}"
                )


@dataclasses.dataclass(frozen=True)
class Ranks:
    """What is known of each edge, (n,) in the order of the edges.

    Args:
        raw: rank among all candidates.
        filtered: rank among those that are not true too.
        candidates: how many there are.
        scores: of the edges.
        negative_scores: (n, negatives), with random nodes of the type asked for.
    """

    raw: np.ndarray
    filtered: np.ndarray
    candidates: np.ndarray
    scores: np.ndarray
    negative_scores: np.ndarray


def rank_edges(
    scorer: EdgeScorer,
    graph: Graph,
    edges: np.ndarray,
    known: Mapping[str, KnownAnswers],
    *,
    inverse: bool = True,
    negatives: int = 1,
    seed: int = 0,
    blocks: Blocks = Blocks(),
    progress: bool = False,
) -> dict[str, Ranks]:
    """Ranks both ends of every edge; see the module.

    Args:
        scorer: the model.
        graph: says which types and relations there are.
        edges: (n, 3) int, (lhs, relation, rhs), of relations that are stored.
        known: side -> the known answers to the edges' queries.
        inverse: ask for heads through inverse relations, where the graph has them.
        negatives: random nodes scored for each edge and side, for the sampled AUC.
        seed: of their drawing.
        blocks: bounds of the memory.
        progress: show a bar on stderr.

    Returns:
        "tail" and "head" -> ranks.

    Raises:
        UserError: a vector is not finite.
    """
    rng = np.random.default_rng(seed)
    groups = [
        group
        for side in SIDES
        for group in query_groups(scorer, graph, edges, side, inverse)
    ]
    found = {side: _empty(len(edges), negatives) for side in SIDES}
    with tqdm(
        total=sum(len(group.places) * group.candidates for group in groups),
        unit=" scores",
        unit_scale=True,
        desc="ranking",
        disable=not progress,
    ) as bar:
        for group in groups:
            for start in range(0, len(group.places), blocks.queries):
                places = group.places[start : start + blocks.queries]
                part = _rank(
                    group, edges[places], known[group.side], negatives, rng, blocks, bar
                )
                for field in dataclasses.fields(Ranks):
                    whole = getattr(found[group.side], field.name)
                    whole[places] = getattr(part, field.name)
    return found


def _rank(
    group: QueryGroup,
    edges: np.ndarray,
    known: KnownAnswers,
    negatives: int,
    rng: np.random.Generator,
    blocks: Blocks,
    bar: tqdm,
) -> Ranks:
    """Ranks `edges`, all of `group`, at most `blocks.queries`."""
    queries = group.query_vectors(edges)
    _, asked = ends_of(edges, group.side)
    chunks = [
        slice(start, min(start + blocks.edges, len(edges)))
        for start in range(0, len(edges), blocks.edges)
    ]
    found = _empty(len(edges), negatives)
    for chunk in chunks:
        own = group.candidate_vectors(asked[chunk])
        # The diagonal of a product: the same bits as in the blocks below, where a sum
        # in another order would break ties.
        found.scores[chunk] = np.diagonal(_products(queries[chunk], own))
        drawn = rng.integers(group.candidates, size=(len(own), negatives))
        drawn = group.candidate_vectors(drawn.reshape(-1)).reshape(*drawn.shape, -1)
        found.negative_scores[chunk] = np.einsum("nd,nkd->nk", queries[chunk], drawn)
    found.raw[:] = found.filtered[:] = 1
    found.candidates[:] = group.candidates
    for start in range(0, group.candidates, blocks.candidates):
        stop = min(start + blocks.candidates, group.candidates)
        vectors = group.candidate_vectors(np.arange(start, stop))
        for chunk in chunks:
            scores = _products(queries[chunk], vectors)
            here = (asked[chunk] >= start) & (asked[chunk] < stop)
            # The true node is not among the others.
            scores[here, asked[chunk][here] - start] = -np.inf
            ahead = places_ahead(scores, found.scores[chunk])
            place, candidate = known.between(edges[chunk], start, stop)
            pair_scores = scores[place, candidate - start, np.newaxis]
            true_ahead = places_ahead(pair_scores, found.scores[chunk][place])
            size = len(ahead)
            found.raw[chunk] += ahead
            found.filtered[chunk] += ahead - np.bincount(place, true_ahead, size)
            found.candidates[chunk] -= np.bincount(place, minlength=size)
            bar.update(scores.size)
    return found


def places_ahead(scores: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(n, m) scores, (n,) own ones -> (n,): how many are higher, half for the same."""
    if scores.shape[1] == 1:
        return (scores[:, 0] > own) + (scores[:, 0] == own) / 2
    # Row by row: with axis=1 numpy takes twice as long.
    rows = zip(scores, own, strict=True)
    counts = [
        np.count_nonzero(row > one) + np.count_nonzero(row == one) / 2
        for row, one in rows
    ]
    return np.array(counts)


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(n, dim), (m, dim) -> (n, m) dot products."""
    # A product with a single row or column is summed up in another order.
    rows, columns = len(first), len(second)
    first, second = (
        np.repeat(x, 2, axis=0) if len(x) == 1 else x for x in (first, second)
    )
    products = tf.matmul(first, second, transpose_b=True).numpy()
    return products[:rows, :columns]


def _empty(edges: int, negatives: int) -> Ranks:
    return Ranks(
        raw=np.zeros(edges),
        filtered=np.zeros(edges),
        candidates=np.zeros(edges, np.int64),
        scores=np.zeros(edges, np.float32),
        negative_scores=np.zeros((edges, negatives), np.float32),
    )
