"""What a ranking asks of a model, and how a trained model answers."""

from typing import Protocol

import numpy as np
import tensorflow as tf

from recap_tf.core.storage.half_precision import read_rows
from twhin_tf.model.graph_embeddings import GraphEmbeddings


class EdgeScorer(Protocol):
    """The parts of a score that a ranking asks for. Vectors are (n, dim) float32.

    score(lhs, relation, rhs) = prepare(transform(relation, lhs)) . prepare(rhs)
    """

    def vectors(self, node_type: str, rows: np.ndarray) -> tf.Tensor:
        """Reads (n,) rows of a type's table, (n, dim)."""

    def transform(self, relation: int, vectors: tf.Tensor) -> tf.Tensor:
        """Applies the relation of that number to left-hand sides."""

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        """Does what the comparator does to both sides before their dot product."""


class ModelScorer:
    """A trained model as an `EdgeScorer`.

    Args:
        model: its comparator is a dot product of prepared vectors.
    """

    def __init__(self, model: GraphEmbeddings):
        self._model = model

    def vectors(self, node_type: str, rows: np.ndarray) -> tf.Tensor:
        return read_rows(self._model.tables[node_type], rows)

    def transform(self, relation: int, vectors: tf.Tensor) -> tf.Tensor:
        return self._model.transform(relation, vectors)

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        return self._model.comparator.prepare(vectors)
