"""Starting from vectors that were trained before, and keeping near them."""

import dataclasses
from collections.abc import Mapping
from typing import Literal, get_args

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core.checks import check_choice, check_range
from twhin_tf.model.edge_batch import EdgeBatch
from twhin_tf.model.node_tables import NodeTables

NewRows = Literal["default", "neighbours"]


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class WarmStart:
    """Starts a new training from vectors of a graph that has grown since.

    Nodes are found by their entities, relations by their names.

    Args:
        checkpoint: of the old training, or its save_dir. What its optimizers know of a
            row comes along, if they are the same.
        graph: folder of the graph that it was trained on.
        vectors: instead of both, a folder of exported vectors, TYPE.parquet; relations
            start anew.
        new_rows: how rows of entities without an old vector start: "default", as
            NodeTable.initializer says; "neighbours", as the mean of what their edges to
            old nodes ask for, at the mean length of old vectors.
        drift: adds drift * |vector - old vector|^2 to the loss, the mean over edges of
            the sum over both ends, for ends that have an old vector; 0 lets them go
            where they will.
    """

    checkpoint: str | None = None
    graph: str | None = None
    vectors: str | None = None
    new_rows: NewRows = "default"
    drift: float = 0.0

    def __post_init__(self):
        given = [self.checkpoint is not None, self.graph is not None]
        if given != [self.vectors is None] * 2:
            raise ValueError(
                "WarmStart takes checkpoint and graph, or vectors. Received: "
                f"{self.checkpoint!r}, {self.graph!r} and {self.vectors!r}"
            )
        check_choice("WarmStart.new_rows", self.new_rows, get_args(NewRows))
        check_range("WarmStart.drift", self.drift, at_least=0)


class Drift:
    """The cost of moving away from old vectors.

        strength * mean over edges of sum over both ends of |vector - old vector|^2

    Args:
        strength: at least 0.
        tables: whose vectors they are.
        old: type -> (rows, dim) old vectors; NaN for rows without one.
    """

    def __init__(
        self, strength: float, tables: NodeTables, old: Mapping[str, np.ndarray]
    ):
        self._strength, self._tables = strength, tables
        # Not constants, which would become part of the graph.
        self._old = [
            tf.Variable(old[name], trainable=False, name=f"old_{name}")
            for name in tables.variables_of
        ]

    def __call__(self, batch: EdgeBatch) -> tf.Tensor:
        """The cost of a batch, a scalar."""
        costs = []
        for side in ("lhs", "rhs"):
            group = self._tables.group(batch.relation, side)
            for place, number in enumerate(self._tables.type_numbers(side)):
                has_old = group == place
                rows = tf.where(has_old, batch.rows[side], 0)
                old = tf.gather(self._old[number], rows)
                has_old &= ~tf.math.is_nan(old[:, 0])
                # Not a product with 0: that of NaN is NaN.
                away = batch.vectors[side] - old
                away = tf.where(has_old[:, tf.newaxis], away, 0.0)
                costs.append(tf.reduce_mean(tf.reduce_sum(away**2, axis=1)))
        return self._strength * tf.add_n(costs)
