"""Nearest neighbours by dot product, and how many of them another search finds."""

import numpy as np
import tensorflow as tf

_BLOCK_BYTES = 1 << 27


def exact_neighbours(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """Finds the rows of `vectors` with the largest products, best first.

    Blocks of queries bound the memory: 128 MB of products, or one query's.

    >>> vectors = np.array([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.0]])
    >>> exact_neighbours(vectors[:2] * 2, vectors, k=2)
    array([[0, 2],
           [1, 2]], dtype=int32)

    Args:
        queries: (n, dim), n at least 1.
        vectors: (m, dim).
        k: neighbours per query, at most m.

    Returns:
        (n, k) int32; among equals the lower row comes first.
    """
    block = max(_BLOCK_BYTES // (4 * len(vectors)), 1)
    neighbours = []
    for start in range(0, len(queries), block):
        products = tf.matmul(queries[start : start + block], vectors, transpose_b=True)
        neighbours.append(tf.math.top_k(products, k).indices.numpy())
    return np.concatenate(neighbours)


def recall(retrieved: np.ndarray, expected: np.ndarray) -> float:
    """Computes the share of the `expected` neighbours that were retrieved.

    >>> recall(np.array([[0, 3]]), np.array([[0, 2]]))
    0.5

    Args:
        retrieved, expected: (n, k) rows or ids, in any order.
    """
    hits = [
        len(np.intersect1d(*neighbours))
        for neighbours in zip(retrieved, expected, strict=True)
    ]
    return float(np.mean(hits) / expected.shape[1])
