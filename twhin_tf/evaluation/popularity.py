"""Ranking by popularity: what a model that knows no node's neighbours could do."""

from collections.abc import Iterable

import numpy as np

from twhin_tf.evaluation.filtered_ranks import places_ahead
from twhin_tf.evaluation.known_answers import SIDES, KnownAnswers, ends_of, query_keys
from twhin_tf.graph.graph import Graph

_MOST_PENDING = 1 << 22
_EDGES = 256


class Popularity:
    """Counters of how often each node is an end of each relation.

    Holds 16 bytes per pair of a relation and a node that occurs.

    Args:
        training: edges, chunk by chunk, each (m, 3) int.
    """

    def __init__(self, training: Iterable[np.ndarray]):
        self._pairs = {side: (np.zeros(0, np.int64),) * 2 for side in SIDES}
        pending: list[np.ndarray] = []
        for chunk in training:
            pending.append(chunk)
            if sum(map(len, pending)) > _MOST_PENDING:
                self._count(np.concatenate(pending))
                pending = []
        if pending:
            self._count(np.concatenate(pending))

    def ranks(
        self, graph: Graph, edges: np.ndarray, side: str, known: KnownAnswers
    ) -> tuple[np.ndarray, np.ndarray]:
        """Returns raw and filtered ranks, (n,) each, as in `filtered_ranks`.

        Args:
            graph: says how many candidates there are.
            edges: (n, 3) int.
            side: the end that is sought, "tail" or "head".
            known: the known answers to the queries of `edges` for that side.
        """
        raw, filtered = np.ones(len(edges)), np.ones(len(edges))
        for number in np.unique(edges[:, 1]).tolist():
            relation = graph.relations[number]
            rows = graph.types[relation.rhs if side == "tail" else relation.lhs].rows
            counts = self._counts_of(number, side)
            counts = np.sort(np.concatenate([np.zeros(rows - len(counts)), counts]))
            places = np.flatnonzero(edges[:, 1] == number)
            for start in range(0, len(places), _EDGES):
                part = places[start : start + _EDGES]
                asked = self._counts(edges[part], side)
                upper = np.searchsorted(counts, asked, "right")
                lower = np.searchsorted(counts, asked, "left")
                ahead = rows - upper + (upper - lower - 1) / 2
                raw[part] += ahead
                place, candidate = known.between(edges[part], 0, rows)
                others = edges[part][place].copy()
                ends_of(others, side)[1][:] = candidate
                true = self._counts(others, side)[:, np.newaxis]
                true_ahead = places_ahead(true, asked[place])
                filtered[part] += ahead - np.bincount(place, true_ahead, len(part))
        return raw, filtered

    def _count(self, edges: np.ndarray) -> None:
        for side in SIDES:
            keys, counts = np.unique(_answer_keys(edges, side), return_counts=True)
            old_keys, old_counts = self._pairs[side]
            merged, place = np.unique(
                np.concatenate([old_keys, keys]), return_inverse=True
            )
            sums = np.bincount(place, np.concatenate([old_counts, counts]))
            self._pairs[side] = merged, sums.astype(np.int64)

    def _counts(self, edges: np.ndarray, side: str) -> np.ndarray:
        """Returns how often each edge's answer is one in its relation, (n,)."""
        keys, counts = self._pairs[side]
        asked = _answer_keys(edges, side)
        at = np.minimum(np.searchsorted(keys, asked), len(keys) - 1)
        return np.where(keys[at] == asked, counts[at], 0)

    def _counts_of(self, relation: int, side: str) -> np.ndarray:
        keys, counts = self._pairs[side]
        low, high = np.searchsorted(
            keys, query_keys(np.array([relation, relation + 1]), 0)
        )
        return counts[low:high]


def _answer_keys(edges: np.ndarray, side: str) -> np.ndarray:
    _, asked = ends_of(edges, side)
    return query_keys(edges[:, 1], asked)
