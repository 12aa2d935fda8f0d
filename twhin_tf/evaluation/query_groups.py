"""Queries that are ranked together: their ends are sought among the same candidates.

A tail is asked for by its own relation, a head by the relation's inverse, since
(lhs + translation) . rhs ranks heads without regard to the relation. Where there is no
inverse, the relation transforms the candidates.
"""

import dataclasses
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from recap_tf.core.command import UserError
from twhin_tf.evaluation.edge_scorers import EdgeScorer
from twhin_tf.evaluation.known_answers import ends_of
from twhin_tf.graph.graph import Graph


@dataclasses.dataclass(frozen=True)
class QueryGroup:
    """Edges whose end is sought among the same candidate vectors.

    Args:
        side: the end that is sought, "tail" or "head".
        places: (n,) of the edges among all.
        candidates: m, the rows of the type that is sought.
        query_vectors: (n, 3) edges -> (n, dim).
        candidate_vectors: (m,) rows -> (m, dim).
    """

    side: str
    places: np.ndarray
    candidates: int
    query_vectors: Callable[[np.ndarray], np.ndarray]
    candidate_vectors: Callable[[np.ndarray], np.ndarray]


def query_groups(
    scorer: EdgeScorer, graph: Graph, edges: np.ndarray, side: str, inverse: bool
) -> Iterator[QueryGroup]:
    """Groups all edges by the type asked for; heads without an inverse by relation.

    Args:
        scorer: gives the groups their vectors.
        graph: says which types and relations there are.
        edges: (n, 3) int, (lhs, relation, rhs).
        side: the end that is sought, "tail" or "head".
        inverse: ask for heads through inverse relations, where there are any.
    """
    relations, number_of = graph.relations, edges[:, 1]
    used = np.unique(number_of).tolist()
    # The relation that leads from what is given to what is asked for.
    leads: dict[int, int | None] = dict.fromkeys(used)
    for number in used:
        if side == "tail":
            leads[number] = number
        elif inverse:
            leads[number] = graph.inverses[number]

    def forward(node_type: str, numbers: list[int]) -> QueryGroup:
        places = np.flatnonzero(np.isin(number_of, numbers))
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
        return QueryGroup(side, places, rows, query_vectors, candidate_vectors)

    def backward(number: int) -> QueryGroup:
        lhs, rhs = relations[number].lhs, relations[number].rhs

        def query_vectors(asked: np.ndarray) -> np.ndarray:
            return _prepared(scorer, scorer.vectors(rhs, asked[:, 2]), rhs)

        def candidate_vectors(rows: np.ndarray) -> np.ndarray:
            vectors = scorer.transform(number, scorer.vectors(lhs, rows))
            return _prepared(scorer, vectors, lhs)

        places, rows = np.flatnonzero(number_of == number), graph.types[lhs].rows
        return QueryGroup(side, places, rows, query_vectors, candidate_vectors)

    by_type: dict[str, list[int]] = {}
    for number, lead in leads.items():
        if lead is None:
            yield backward(number)
        else:
            by_type.setdefault(relations[lead].rhs, []).append(number)
    for node_type, numbers in by_type.items():
        yield forward(node_type, numbers)


def _prepared(scorer: EdgeScorer, vectors: tf.Tensor, node_type: str) -> np.ndarray:
    prepared = np.asarray(scorer.prepare(vectors))
    if not np.isfinite(prepared).all():
        raise UserError(
            f"The vectors of type {node_type!r} are not all finite: the training "
            "diverged. Lower its learning rates."
        )
    return prepared


def _runs(relations: np.ndarray, rows: np.ndarray) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (relation, its rows) of relations that stand together."""
    cuts = np.flatnonzero(np.diff(relations)) + 1
    runs = zip(np.split(relations, cuts), np.split(rows, cuts), strict=True)
    for run, run_rows in runs:
        yield int(run[0]), run_rows
