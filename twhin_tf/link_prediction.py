"""Link prediction: the rank of the true node among all candidates of its type.

    tail    (lhs, relation, ?): all nodes of the relation's rhs type are candidates
    head    (?, relation, rhs): all nodes of its lhs type
    rank    1 + candidates that score higher + half of the others that score the same

so that ties are at their mean rank. Raw ranks are among all candidates, filtered ranks
(Bordes et al. 2013) without those that are true too. A head is asked for through the
relation's inverse where there is one, since (lhs + translation) . rhs ranks heads
without regard to the relation.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping
from typing import Protocol

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from recap_tf.core.command import UserError
from recap_tf.core.half_tables import read_rows
from twhin_tf.graph import Graph
from twhin_tf.known_edges import SIDES, KnownAnswers, ends_of
from twhin_tf.model import GraphEmbeddings


class EdgeScorer(Protocol):
    """What link prediction asks of a model. Arrays are (n, dim) float32.

    score(lhs, relation, rhs) = prepare(transform(relation, lhs)) . prepare(rhs)
    """

    def vectors(self, node_type: str, rows: np.ndarray) -> tf.Tensor:
        """Rows of a type's table."""

    def transform(self, relation: int, vectors: tf.Tensor) -> tf.Tensor:
        """What the relation makes of left-hand sides."""

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        """What the comparator does to both sides before their dot product."""


class ModelScorer:
    """A trained model as link prediction asks of it.

    Args:
        model: whose comparator is a dot product of prepared vectors.
    """

    def __init__(self, model: GraphEmbeddings):
        self._model = model

    def vectors(self, node_type: str, rows: np.ndarray) -> tf.Tensor:
        return read_rows(self._model.tables[node_type], rows)

    def transform(self, relation: int, vectors: tf.Tensor) -> tf.Tensor:
        return self._model.transform(relation, vectors)

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        return self._model.comparator.prepare(vectors)


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
    groups = [g for side in SIDES for g in _groups(scorer, graph, edges, side, inverse)]
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


@dataclasses.dataclass(frozen=True)
class _Group:
    """Edges whose end is sought among the same candidate vectors.

    Args:
        side: which end.
        places: of the edges among all.
        candidates: how many there are.
        query_vectors: (n, 3) edges -> (n, dim).
        candidate_vectors: (m,) rows -> (m, dim).
    """

    side: str
    places: np.ndarray
    candidates: int
    query_vectors: Callable[[np.ndarray], np.ndarray]
    candidate_vectors: Callable[[np.ndarray], np.ndarray]


def _groups(
    scorer: EdgeScorer, graph: Graph, edges: np.ndarray, side: str, inverse: bool
) -> Iterator[_Group]:
    """All edges: by the type asked for; heads without an inverse by relation."""
    relations, number_of = graph.relations, edges[:, 1]
    used = np.unique(number_of).tolist()
    # The relation that leads from what is given to what is asked for.
    leads: dict[int, int | None] = dict.fromkeys(used)
    for number in used:
        if side == "tail":
            leads[number] = number
        elif inverse:
            leads[number] = graph.inverses[number]

    def forward(node_type: str, own: list[int]) -> _Group:
        places = np.flatnonzero(np.isin(number_of, own))
        # Runs of one relation, so that each is transformed at once.
        places = places[np.argsort(number_of[places], kind="stable")]

        def query_vectors(asked: np.ndarray) -> np.ndarray:
            given, _ = ends_of(asked, side)
            parts = []
            for number, rows in _runs(asked[:, 1], given):
                lead = leads[number]
                source = relations[lead].lhs
                vectors = scorer.transform(lead, scorer.vectors(source, rows))
                parts.append(_prepared(scorer, vectors, source))
            return np.concatenate(parts)

        def candidate_vectors(rows: np.ndarray) -> np.ndarray:
            return _prepared(scorer, scorer.vectors(node_type, rows), node_type)

        rows = graph.types[node_type].rows
        return _Group(side, places, rows, query_vectors, candidate_vectors)

    def backward(number: int) -> _Group:
        lhs, rhs = relations[number].lhs, relations[number].rhs

        def query_vectors(asked: np.ndarray) -> np.ndarray:
            return _prepared(scorer, scorer.vectors(rhs, asked[:, 2]), rhs)

        def candidate_vectors(rows: np.ndarray) -> np.ndarray:
            vectors = scorer.transform(number, scorer.vectors(lhs, rows))
            return _prepared(scorer, vectors, lhs)

        places, rows = np.flatnonzero(number_of == number), graph.types[lhs].rows
        return _Group(side, places, rows, query_vectors, candidate_vectors)

    by_type: dict[str, list[int]] = {}
    for number, lead in leads.items():
        if lead is None:
            yield backward(number)
        else:
            by_type.setdefault(relations[lead].rhs, []).append(number)
    for node_type, own in by_type.items():
        yield forward(node_type, own)


def _prepared(scorer: EdgeScorer, vectors: tf.Tensor, node_type: str) -> np.ndarray:
    prepared = np.asarray(scorer.prepare(vectors))
    if not np.isfinite(prepared).all():
        raise UserError(
            f"The vectors of type {node_type!r} are not all finite: the training "
            "diverged. Lower its learning rates."
        )
    return prepared


def _runs(relations: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """(relation, its rows) of relations that stand together."""
    cuts = np.flatnonzero(np.diff(relations)) + 1
    for part, own in zip(np.split(relations, cuts), np.split(rows, cuts), strict=True):
        yield int(part[0]), own


def _rank(
    group: _Group,
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
