"""A batch of edges with the vectors of their ends, which negatives are taken from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Literal

import tensorflow as tf

Side = Literal["lhs", "rhs"]


@dataclasses.dataclass
class EdgeBatch:
    """Edges, and what the model made of them.

    Args:
        rows: side -> (batch,) int32.
        relation: (batch,) int32.
        vectors: side -> (batch, dim); the left-hand sides as they are in the table.
        queries: (batch, dim): the operators' results.
        drawn: (sampler, side) -> rows (n,) and vectors (n, dim) of each type there,
            where they were drawn and looked up before the step.
    """

    rows: dict[str, tf.Tensor]
    relation: tf.Tensor
    vectors: dict[str, tf.Tensor]
    queries: tf.Tensor
    drawn: Mapping[
        tuple[object, Side], tuple[Sequence[tf.Tensor], Sequence[tf.Tensor]]
    ] = dataclasses.field(default_factory=dict)

    def take(self, end: Literal["queries", "lhs", "rhs"], places: tf.Tensor):
        """Takes the vectors at `places`, (...) of the batch: (..., dim).

        Their gradients are added into those of the whole batch in place; TensorFlow
        would spread them over zeros and add that up. To be called before the vectors
        are used otherwise.
        """
        if end == "queries":
            self.queries, taken = _with_rows(self.queries, places)
        else:
            self.vectors[end], taken = _with_rows(self.vectors[end], places)
        return taken


def _with_rows(whole: tf.Tensor, places: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Copies rows out: (batch, dim), (...) -> the same, and its rows at `places`."""

    @tf.custom_gradient
    def taken(whole):
        def gradient(of_whole, of_rows):
            return tf.tensor_scatter_nd_add(of_whole, places[..., tf.newaxis], of_rows)

        return (tf.identity(whole), tf.gather(whole, places)), gradient

    return taken(whole)
