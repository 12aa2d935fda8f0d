"""Link prediction: raw and filtered ranks of true nodes among all of their types.

    tail    (lhs, relation, ?): all nodes of the relation's rhs type are candidates
    head    (?, relation, rhs): all nodes of its lhs type
    rank    1 + candidates that score higher + half of the others that score the same

so that ties are at their mean rank. Raw ranks are among all candidates, filtered ranks
(Bordes et al. 2013) leave out those that make another known edge.
"""

import dataclasses
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from recap_tf.core.checks import check_range
from twhin_tf.evaluation.edge_scorers import EdgeScorer
from twhin_tf.evaluation.known_answers import SIDES, KnownAnswers, ends_of
from twhin_tf.evaluation.query_groups import QueryGroup, query_groups
from twhin_tf.graph.graph import Graph


@dataclasses.dataclass(frozen=True, kw_only=True)
class Blocks:
    """How much of a ranking is held in memory at once.

        bytes = 4 * (edges * candidates + dim * (2 * queries + candidates))
                + 16 * (pairs of an edge and a known answer in one block)

    besides the edges, 40 bytes each, and `KnownAnswers`. With the defaults and width
    128, 190 MB, for any number of edges and candidates; the last term is at most four
    times the first.

    Args:
        queries: vectors of queries computed at once, and kept while the candidates
            pass by.
        edges: rows of a block of scores.
        candidates: columns of a block of scores.
    """

    queries: int = 131_072
    edges: int = 256
    candidates: int = 32_768

    def __post_init__(self):
        for name in ("queries", "edges", "candidates"):
            check_range(f"Blocks.{name}", getattr(self, name), at_least=1)


@dataclasses.dataclass(frozen=True)
class Ranks:
    """The ranks of n edges on one side, in the order of the edges.

    Args:
        raw: (n,), among all candidates.
        filtered: (n,), among the candidates that make no other known edge.
        candidates: (n,), how many of these there are.
        scores: (n,) of the edges.
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
    """Ranks both ends of every edge among all nodes of their types.

    >>> from types import SimpleNamespace
    >>> from twhin_tf.evaluation.known_answers import read_known_answers
    >>> from twhin_tf.graph.graph import NodeType, Relation
    >>> scorer = SimpleNamespace(
    ...     vectors=lambda node_type, rows: tf.gather([[0.1], [0.5], [0.4]], rows),
    ...     transform=lambda relation, vectors: vectors,
    ...     prepare=lambda vectors: vectors,
    ... )
    >>> types = {"user": NodeType(name="user", rows=3)}
    >>> follow = Relation(name="follow", lhs="user", rhs="user")
    >>> graph = Graph(folder="g", types=types, relations=[follow], splits={})
    >>> edges = np.array([[0, 0, 2]])
    >>> known = read_known_answers(edges, [edges, np.array([[0, 0, 1]])])
    >>> tail = rank_edges(scorer, graph, edges, known)["tail"]
    >>> tail.raw, tail.filtered
    (array([2.]), array([1.]))

    Args:
        scorer: gives vectors whose dot products are scores.
        graph: says which types and relations there are.
        edges: (n, 3) int, (lhs, relation, rhs), of relations that are stored.
        known: side -> the known answers to the edges' queries.
        inverse: ask for heads through inverse relations, where the graph has them.
        negatives: random nodes scored for each edge and side, for the sampled AUC.
        seed: of these nodes.
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
    ranks = {side: _empty(len(edges), negatives) for side in SIDES}
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
                    whole = getattr(ranks[group.side], field.name)
                    whole[places] = getattr(part, field.name)
    return ranks


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
    ranks = _empty(len(edges), negatives)
    for chunk in chunks:
        true = group.candidate_vectors(asked[chunk])
        # The diagonal of a product: the same bits as in the blocks below, where a sum
        # in another order would break ties.
        ranks.scores[chunk] = np.diagonal(_products(queries[chunk], true))
        drawn = rng.integers(group.candidates, size=(len(true), negatives))
        drawn = group.candidate_vectors(drawn.reshape(-1)).reshape(*drawn.shape, -1)
        ranks.negative_scores[chunk] = np.einsum("nd,nkd->nk", queries[chunk], drawn)
    ranks.raw[:] = ranks.filtered[:] = 1
    ranks.candidates[:] = group.candidates
    for start in range(0, group.candidates, blocks.candidates):
        stop = min(start + blocks.candidates, group.candidates)
        vectors = group.candidate_vectors(np.arange(start, stop))
        for chunk in chunks:
            scores = _products(queries[chunk], vectors)
            here = (asked[chunk] >= start) & (asked[chunk] < stop)
            # The true node is not among the others.
            scores[here, asked[chunk][here] - start] = -np.inf
            ahead = places_ahead(scores, ranks.scores[chunk])
            place, candidate = known.between(edges[chunk], start, stop)
            pair_scores = scores[place, candidate - start, np.newaxis]
            true_ahead = places_ahead(pair_scores, ranks.scores[chunk][place])
            size = len(ahead)
            ranks.raw[chunk] += ahead
            ranks.filtered[chunk] += ahead - np.bincount(place, true_ahead, size)
            ranks.candidates[chunk] -= np.bincount(place, minlength=size)
            bar.update(scores.size)
    return ranks


def places_ahead(scores: np.ndarray, true_scores: np.ndarray) -> np.ndarray:
    """Counts the scores above a true one, and half of those equal to it.

    >>> places_ahead(np.array([[1.0, 3.0, 2.0]]), np.array([2.0]))
    array([1.5])

    Args:
        scores: (n, m) of candidates.
        true_scores: (n,), to which each row is compared.

    Returns:
        (n,) float64.
    """
    if scores.shape[1] == 1:
        return (scores[:, 0] > true_scores) + (scores[:, 0] == true_scores) / 2
    # Row by row: with axis=1 numpy takes twice as long.
    rows = zip(scores, true_scores, strict=True)
    counts = [
        np.count_nonzero(row > true) + np.count_nonzero(row == true) / 2
        for row, true in rows
    ]
    return np.array(counts)


def _products(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Computes the dot products of (n, dim) with (m, dim) vectors, (n, m)."""
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
