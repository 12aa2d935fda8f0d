"""Comparators: two vectors -> how well they go together."""

import gin
import tensorflow as tf

from twhin_tf.model.grouped_product import grouped_product


@gin.register
class Dot:
    """score(a, b) = a . b."""

    splits_adjoint = True
    """Whether score(operator(lhs), rhs) can be had from untransformed lhs."""

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        """What is done to both sides, (..., dim), before their dot product."""
        return vectors

    def pairs(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """(batch, dim), (batch, dim) -> (batch,)."""
        products = self.prepare(first) * self.prepare(second)
        # A sum over short rows takes TensorFlow longer than this product.
        ones = tf.ones([products.shape[-1], 1])
        return tf.squeeze(tf.matmul(products, ones), axis=-1)

    def grouped(
        self, vectors: tf.Tensor, candidates: tf.Tensor, group: tf.Tensor
    ) -> tf.Tensor:
        """(batch, dim), (groups, n, dim), (batch,) -> (batch, n).

        Each vector against the candidates of its group.
        """
        return grouped_product(self.prepare(vectors), self.prepare(candidates), group)


@gin.register
class Cosine(Dot):
    """score(a, b) = scale * a . b / (|a| |b|).

    Args:
        scale: the largest score; with 1, losses cannot tell good from very good.
    """

    splits_adjoint = False

    def __init__(self, scale: float = 10.0):
        if not scale > 0:
            raise ValueError(f"Cosine.scale must be more than 0. Received: {scale}")
        self.scale = scale

    def prepare(self, vectors):
        return self.scale**0.5 * tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)
