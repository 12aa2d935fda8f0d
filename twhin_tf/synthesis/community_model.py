"""A random graph with communities and power-law degrees, and how well it is predicted.

The degree-corrected stochastic block model (Karrer and Newman 2011, arXiv:1008.3926):
every node has a community and a weight. An edge's left node is drawn by weight; its
right node by weight too, with probability p among those of the left node's community,
else among all.
"""

import dataclasses

import numpy as np


class Nodes:
    """The nodes of one type, each with a weight and a community.

    Args:
        count: nodes, at least 1.
        communities: into which they fall, each as likely.
        exponent: of the degrees, above 1: the share of nodes with degree d falls as
            d^-exponent.
        rng: draws weights and communities.

    Attributes:
        weights: (count,), in proportion to which nodes become ends of edges.
        communities: (count,), 0 to communities - 1.
    """

    def __init__(
        self, count: int, communities: int, exponent: float, rng: np.random.Generator
    ):
        ranks = rng.permutation(count) + 0.5
        self.weights = (ranks / count) ** (-1.0 / (exponent - 1.0))
        self.communities = rng.integers(communities, size=count)
        self._order = np.argsort(self.communities, kind="stable")
        self._sums = np.concatenate([[0.0], np.cumsum(self.weights[self._order])])
        ends = np.cumsum(np.bincount(self.communities, minlength=communities))
        self._ends = self._sums[ends]
        self._starts = np.concatenate([[0.0], self._ends[:-1]])

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws `count` nodes by weight, (count,)."""
        return self._at(rng.random(count) * self._sums[-1])

    def draw_in(self, communities: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draws a node of each of (n,) communities; of all where one has none."""
        low, high = self._starts[communities], self._ends[communities]
        low, high = (
            np.where(low < high, low, 0.0),
            np.where(low < high, high, self._sums[-1]),
        )
        return self._at(low + rng.random(len(communities)) * (high - low))

    def probabilities(self, community: int, inside: float) -> np.ndarray:
        """Gives the probability of each node to go with a left node of `community`.

        Args:
            community: of the left node.
            inside: probability that the right node is drawn from `community`.
        """
        everywhere = self.weights / self._sums[-1]
        total = self._ends[community] - self._starts[community]
        if not total:
            return everywhere
        within = np.where(self.communities == community, self.weights / total, 0.0)
        return inside * within + (1.0 - inside) * everywhere

    def _at(self, sums: np.ndarray) -> np.ndarray:
        places = np.searchsorted(self._sums, sums, side="right") - 1
        return self._order[np.clip(places, 0, len(self._order) - 1)]


@dataclasses.dataclass(frozen=True)
class CommunityRelation:
    """A relation between two types of nodes, whose edges are drawn at random.

    Args:
        lhs, rhs: the nodes of either side; the same object if they are of one type.
        inside: probability that the right node is of the left one's community.
    """

    lhs: Nodes
    rhs: Nodes
    inside: float

    def draw(self, count: int, rng: np.random.Generator) -> np.ndarray:
        """Draws `count` edges, (n, 2), and leaves out those from a node to itself."""
        lhs = self.lhs.draw(count, rng)
        rhs = self.rhs.draw(count, rng)
        inside = np.flatnonzero(rng.random(count) < self.inside)
        rhs[inside] = self.rhs.draw_in(self.lhs.communities[lhs[inside]], rng)
        edges = np.stack([lhs, rhs], axis=1)
        return edges[lhs != rhs] if self.lhs is self.rhs else edges

    def best_mrr(self, edges: np.ndarray) -> float:
        """Ranks the right nodes of (n, 2) edges by their true probabilities.

        No model ranks new edges better. Ties count at their mean rank.

        Returns:
            The mean reciprocal rank.
        """
        of_edge = self.lhs.communities[edges[:, 0]]
        total = 0.0
        for community in np.unique(of_edge):
            scores = self.rhs.probabilities(community, self.inside)
            ordered = np.sort(scores)
            true = scores[edges[of_edge == community, 1]]
            above = len(ordered) - np.searchsorted(ordered, true, side="right")
            equal = len(ordered) - above - np.searchsorted(ordered, true, side="left")
            total += float((1.0 / (above + (equal + 1) / 2)).sum())
        return total / len(edges)
