"""Which edges are true, for the queries that are asked: what filtered ranks leave out.

A query is a relation and one of its two ends; its answers are the nodes at the other.
"""

from collections.abc import Iterable, Mapping

import numpy as np

SIDES = ("tail", "head")
"""The end that is asked for: "tail", the rhs of (lhs, relation, ?), or "head"."""

# Several graphs of Common Crawl's size fit; int64 holds both in one number.
_NODES = 1 << 40
_ANSWERS = 1 << 32


def ends_of(edges: np.ndarray, side: str) -> tuple[np.ndarray, np.ndarray]:
    """Returns (what is given, what is asked for), (n,) each, views of (n, 3) edges."""
    lhs, rhs = edges[:, 0], edges[:, 2]
    return (lhs, rhs) if side == "tail" else (rhs, lhs)


def query_keys(relations: np.ndarray, nodes: np.ndarray | int) -> np.ndarray:
    """Numbers n pairs, (n,) int64; in the order of the relation, then the node."""
    return relations.astype(np.int64) * _NODES + nodes


class KnownAnswers:
    """The known answers to the queries of some edges, sorted by query.

    Holds 8 bytes per known edge that answers one of the queries, whatever the size of
    the graph, and 8 bytes per query.

    >>> known = KnownAnswers(np.array([[7, 0, 1]]), "tail")
    >>> known.add(np.array([[7, 0, 1], [7, 0, 4], [8, 0, 5]]))
    >>> known.finish().between(np.array([[7, 0, 1]]), 0, 10)[1]
    array([4])

    Args:
        edges: (n, 3) int, (lhs, relation, rhs), whose queries are asked; n at least 1.
        side: the end they ask for, "tail" or "head".
    """

    def __init__(self, edges: np.ndarray, side: str):
        self._side = side
        self._queries = np.unique(self._keys(edges))
        self._parts: list[np.ndarray] = []
        self._answers = np.zeros(0, np.int64)

    def add(self, known: np.ndarray) -> None:
        """Adds those of (m, 3) true edges that answer a query, until `finish`."""
        keys = self._keys(known)
        at = np.searchsorted(self._queries, keys)
        asked = np.flatnonzero(
            self._queries[np.minimum(at, len(self._queries) - 1)] == keys
        )
        _, answers = ends_of(known[asked], self._side)
        self._parts.append(at[asked] * _ANSWERS + answers)

    def finish(self) -> "KnownAnswers":
        """Sorts what was added; an edge that was added twice counts once."""
        answers = np.concatenate([self._answers, *self._parts])
        self._parts = []
        answers.sort()
        first = np.ones(len(answers), bool)
        first[1:] = answers[1:] != answers[:-1]
        self._answers = answers[first]
        return self

    def between(
        self, edges: np.ndarray, start: int, stop: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Finds the known answers among candidates start to stop - 1.

        Each edge's own end is not among them.

        Returns:
            place of an edge among `edges`, candidate; one pair per answer, (p,) int64.
        """
        query = np.searchsorted(self._queries, self._keys(edges)) * _ANSWERS
        low = np.searchsorted(self._answers, query + start)
        high = np.searchsorted(self._answers, query + stop)
        counts = high - low
        place = np.repeat(np.arange(len(edges)), counts)
        # 0, 1, 2 ... within each edge.
        within = np.arange(len(place)) - np.repeat(np.cumsum(counts) - counts, counts)
        candidate = self._answers[low[place] + within] % _ANSWERS
        _, asked = ends_of(edges, self._side)
        other = candidate != asked[place]
        return place[other], candidate[other]

    def _keys(self, edges: np.ndarray) -> np.ndarray:
        given, _ = ends_of(edges, self._side)
        return query_keys(edges[:, 1], given)


def read_known_answers(
    edges: np.ndarray, known: Iterable[np.ndarray]
) -> Mapping[str, KnownAnswers]:
    """Finds the answers to the queries of `edges` in one pass over `known` edges.

    Args:
        edges: (n, 3) int, n at least 1.
        known: all true edges, chunk by chunk, each (m, 3) int.

    Returns:
        "tail" and "head" -> the answers.
    """
    by_side = {side: KnownAnswers(edges, side) for side in SIDES}
    for chunk in known:
        for answers in by_side.values():
            answers.add(chunk)
    return {side: answers.finish() for side, answers in by_side.items()}
