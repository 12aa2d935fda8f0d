"""Comparators: two vectors -> how well they go together."""

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range
from twhin_tf.model.grouped_product import grouped_product


@gin.register
class Dot:
    """Dot product: score(a, b) = a . b.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.comparators import Dot
    >>> scores = Dot().pairs(tf.constant([[1.0, 2.0]]), tf.constant([[3.0, 4.0]]))
    >>> scores.numpy().tolist()
    [11.0]
    """

    splits_adjoint = True
    """Whether score(operator(lhs), rhs) can be had from untransformed lhs."""

    def prepare(self, vectors: tf.Tensor) -> tf.Tensor:
        """Prepares both sides, (..., dim), for their dot product."""
        return vectors

    def pairs(self, first: tf.Tensor, second: tf.Tensor) -> tf.Tensor:
        """Scores of pairs: (batch, dim), (batch, dim) -> (batch,)."""
        products = self.prepare(first) * self.prepare(second)
        # A sum over short rows takes TensorFlow longer than this product.
        ones = tf.ones([products.shape[-1], 1])
        return tf.squeeze(tf.matmul(products, ones), axis=-1)

    def grouped(
        self, vectors: tf.Tensor, candidates: tf.Tensor, group: tf.Tensor
    ) -> tf.Tensor:
        """Scores of each vector with the candidates of its group.

        (batch, dim), (groups, n, dim), (batch,) integers -> (batch, n).
        """
        return grouped_product(self.prepare(vectors), self.prepare(candidates), group)


@gin.register
class Cosine(Dot):
    """Cosine: score(a, b) = scale * a . b / (|a| |b|).

    Args:
        scale: the largest score, above 0; with 1, losses cannot tell good from very
            good.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.comparators import Cosine
    >>> scores = Cosine(scale=10.0).pairs(tf.ones([1, 2]), tf.constant([[3.0, 0.0]]))
    >>> round(float(scores[0]), 3)
    7.071
    """

    splits_adjoint = False

    def __init__(self, scale: float = 10.0):
        check_range("Cosine.scale", scale, above=0)
        self.scale = scale

    def prepare(self, vectors):
        return self.scale**0.5 * tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)
