"""Graph embeddings: node tables, relations' operators, and how well an edge fits."""

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.core.optimizers.grouped import Optimizer
from twhin_tf.model.comparators import Dot
from twhin_tf.model.edge_batch import EdgeBatch, Side
from twhin_tf.model.known_pairs import known_pairs
from twhin_tf.model.lookups import LookedUp
from twhin_tf.model.losses import EdgeLoss, NegativeScores
from twhin_tf.model.negatives import Candidates, Sampler, derived, of_group
from twhin_tf.model.node_tables import NodeTables
from twhin_tf.model.operators import RelationOperators

_DROPOUT = 997

MaskKnown = Literal["batch", "own", "nothing"]


@gin.register
class Penalty:
    """Keeps vectors small: factor * mean over edges of sum of |numbers|^power.

    Of both ends and the relation of each edge; complex numbers by their modulus. Power
    2 is weight decay, 3 the nuclear 3-norm of Lacroix et al. 2018 (arXiv:1806.07297,
    eq. 5).

    Args:
        factor: its strength, at least 0.
        power: at least 1.
    """

    def __init__(self, factor: float, power: int = 3):
        check_range("Penalty.factor", factor, at_least=0)
        check_range("Penalty.power", power, at_least=1)
        self.factor, self.power = factor, power


class GraphEmbeddings(tf.Module):
    """A graph's vectors and what scores its edges.

        score(lhs, r, rhs) = comparator(operator_r(vector of lhs), vector of rhs)

    >>> from recap_tf.core.optimizers.sparse_adagrad import SparseAdagrad
    >>> from twhin_tf.graph.graph import Graph, NodeType, Relation
    >>> graph = Graph(
    ...     folder="g",
    ...     types={"user": NodeType(name="user", rows=5)},
    ...     relations=[Relation(name="follow", lhs="user", rhs="user")],
    ...     splits={"train": 9},
    ... )
    >>> from twhin_tf.model.comparators import Dot
    >>> from twhin_tf.model.node_tables import NodeTable, NodeTables
    >>> from twhin_tf.model.operators import RelationOperators, Translation
    >>> tables = NodeTables(graph, 4, NodeTable(), {})
    >>> operators = RelationOperators(["follow"], Translation, {})
    >>> model = GraphEmbeddings(tables, operators, Dot(), SparseAdagrad)
    >>> users = tf.convert_to_tensor(model.tables["user"])
    >>> model.score_all(model.transform(0, users[:2]), users).shape
    TensorShape([2, 5])

    Args:
        node_tables: the vectors of all node types, (rows, dim) each.
        operators: of the relations; their weights are the relations' parameters.
        comparator: of two vectors.
        dropout: share of the operators' outputs that training sets to 0, in [0, 1).
        relation_optimizer: makes that of the operators' weights.

    Attributes:
        tables: node type -> (rows, dim) variable.
    """

    def __init__(
        self,
        node_tables: NodeTables,
        operators: RelationOperators,
        comparator: Dot,
        relation_optimizer: Callable[[], Optimizer],
        dropout: float = 0.0,
    ):
        super().__init__(name="graph_embeddings")
        self.node_tables, self.operators = node_tables, operators
        self.comparator, self._dropout = comparator, dropout
        self._relation_optimizer = relation_optimizer
        dim = next(iter(self.tables.values())).shape[1]
        operators.build([(None, dim), (None,)])

    @property
    def tables(self) -> Mapping[str, tf.Variable]:
        return self.node_tables.variables_of

    def parameter_groups(self) -> dict[str, tuple[Optimizer, list[tf.Variable]]]:
        """The groups of weights: name -> (its optimizer, its weights).

        They are called "table/<type>" and "relations".
        """
        groups = self.node_tables.optimizers()
        if weights := self.operators.trainable_weights:
            groups["relations"] = (self._relation_optimizer(), weights)
        return groups

    def transform(self, relation: tf.Tensor | int, vectors: tf.Tensor) -> tf.Tensor:
        """Left-hand sides as right-hand sides are compared with: (batch, dim).

        Args:
            relation: its number, one for all or (batch,).
            vectors: (batch, dim) of the left-hand sides.
        """
        relation = tf.broadcast_to(relation, tf.shape(vectors)[:1])
        return self.operators([vectors, relation])

    def score(self, transformed: tf.Tensor, rhs: tf.Tensor) -> tf.Tensor:
        """Scores of pairs: (batch, dim) and (batch, dim) -> (batch,)."""
        return self.comparator.pairs(transformed, rhs)

    def score_all(self, transformed: tf.Tensor, candidates: tf.Tensor) -> tf.Tensor:
        """Scores of each with each: (batch, dim) and (n, dim) -> (batch, n)."""
        group = tf.zeros(tf.shape(transformed)[:1], tf.int32)
        return self.comparator.grouped(transformed, candidates[tf.newaxis], group)

    def read(
        self,
        edges: tf.Tensor,
        dropout_seed: tf.Tensor | None = None,
        looked_up: LookedUp | None = None,
    ) -> EdgeBatch:
        """Looks the vectors of edges up.

        Args:
            edges: (batch, 3) integers: lhs, relation, rhs.
            dropout_seed: (2,) integers; none for no dropout.
            looked_up: the vectors, if the node tables have been asked already.
        """
        lhs, relation, rhs = tf.unstack(edges, axis=1)
        if looked_up is None:
            lhs_vectors, rhs_vectors = self.node_tables.edges(lhs, relation, rhs)
        else:
            lhs_vectors, rhs_vectors = looked_up.ends
        queries = self.operators([lhs_vectors, relation])
        if self._dropout and dropout_seed is not None:
            queries = tf.nn.experimental.stateless_dropout(
                queries, self._dropout, dropout_seed
            )
        return EdgeBatch(
            rows={"lhs": lhs, "rhs": rhs},
            relation=relation,
            vectors={"lhs": lhs_vectors, "rhs": rhs_vectors},
            queries=queries,
            drawn={} if looked_up is None else looked_up.drawn,
        )

    def scores(self, batch: EdgeBatch) -> tf.Tensor:
        """The scores of the edges, (batch,)."""
        return self.comparator.pairs(batch.queries, batch.vectors["rhs"])

    def candidate_scores(
        self, batch: EdgeBatch, side: Side, candidates: Candidates
    ) -> tf.Tensor:
        """The scores of the edges with `candidates` on `side`, (batch, n)."""
        vectors, group = candidates.vectors, candidates.group
        if side == "rhs":
            return self.comparator.grouped(batch.queries, vectors, group)
        rhs = batch.vectors["rhs"]
        if candidates.transformed:
            return self.comparator.grouped(rhs, vectors, group)
        turned, offset = self.operators.adjoint(rhs, batch.relation)
        scores = self.comparator.grouped(turned, vectors, group)
        return scores if offset is None else scores + offset[:, tf.newaxis]


class EdgeObjective:
    """What training minimises, of a batch of edges.

    Args:
        model: scores the edges.
        samplers: of negatives; each draws with a seed of its own.
        loss: of edges and negatives.
        mask_known: see `settings.Embedder`.
        relation_weights: (relations,) what their edges count for; none for 1.
        penalty: of the vectors' sizes.
        drift: what is added to the loss of a batch for being away from old vectors.
    """

    names = ("loss", "batch_auc")
    """Of the numbers that a call returns."""

    def __init__(
        self,
        model: GraphEmbeddings,
        samplers: Sequence[Sampler],
        loss: EdgeLoss,
        mask_known: MaskKnown = "batch",
        relation_weights: np.ndarray | None = None,
        penalty: Penalty | None = None,
        drift: Callable[[EdgeBatch], tf.Tensor] | None = None,
    ):
        self._model, self.samplers, self._loss = model, tuple(samplers), loss
        self._mask_known, self._penalty = mask_known, penalty
        self._weights, self._drift = relation_weights, drift

    def of(self, model: GraphEmbeddings) -> "EdgeObjective":
        """The same for another model of the same graph."""
        other = copy.copy(self)
        other._model = model
        return other

    def __call__(
        self, edges: tf.Tensor, seed: tf.Tensor, looked_up: LookedUp | None = None
    ) -> tf.Tensor:
        """The loss of a batch and the AUC within it, (2,).

        Args:
            edges: (batch, 3) int32.
            seed: (2,) int64; the same draws the same negatives.
            looked_up: the vectors, if the node tables have been asked already.
        """
        batch = self._model.read(edges, derived(seed, _DROPOUT), looked_up)
        drawn = [
            candidates
            for number, sampler in enumerate(self.samplers)
            for candidates in sampler.draw(batch, derived(seed, number))
        ]
        return self.of_candidates(batch, drawn)

    def of_candidates(
        self, batch: EdgeBatch, drawn: Sequence[tuple[Side, Candidates]]
    ) -> tf.Tensor:
        """The loss and the AUC for candidates that are given, (2,)."""
        positives = self._model.scores(batch)
        negatives = [
            self._compare(batch, positives, side, candidates)
            for side, candidates in drawn
        ]
        weights = None
        if self._weights is not None:
            table = tf.constant(self._weights, tf.float32)
            weights = tf.gather(table, batch.relation)
        loss = self._loss(positives, negatives, weights)
        if self._penalty is not None:
            sizes = self._model.operators.penalty(
                batch.vectors["lhs"],
                batch.relation,
                batch.vectors["rhs"],
                self._penalty.power,
            )
            loss += self._penalty.factor * tf.reduce_mean(sizes)
        if self._drift is not None:
            loss += self._drift(batch)
        return tf.stack([loss, _auc(negatives)])

    def _compare(self, batch, positives, side, candidates) -> NegativeScores:
        scores = self._model.candidate_scores(batch, side, candidates)
        if candidates.log_q is not None:
            log_q, log_q_of_edges = candidates.log_q
            scores -= of_group(log_q, candidates.group)
            positives -= log_q_of_edges
        return NegativeScores(
            scores, self._keep(batch, side, candidates), positives, candidates.columns
        )

    def _keep(self, batch: EdgeBatch, side: Side, candidates: Candidates):
        rows, group = candidates.rows, candidates.group
        if rows is None or self._mask_known == "nothing":
            return None
        if self._mask_known == "own":
            return batch.rows[side][:, tf.newaxis] != of_group(rows, group)
        anchors = batch.rows["rhs" if side == "lhs" else "lhs"]
        return ~known_pairs(anchors, batch.relation, batch.rows[side], rows, group)


def _auc(negatives: Sequence[NegativeScores]) -> tf.Tensor:
    """How often an edge scores higher than one negative of its own.

    Masked negatives count as any other: a figure to watch, not to report.
    """
    first = negatives[0]
    above = tf.stop_gradient(first.edges) > tf.stop_gradient(first.scores[:, 0])
    return tf.reduce_mean(tf.cast(above, tf.float32))
