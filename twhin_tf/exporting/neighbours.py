"""Nearest neighbours by dot product, and how many of them another search finds."""

import numpy as np
import tensorflow as tf

_BLOCK_BYTES = 1 << 27


def exact_neighbours(queries: np.ndarray, vectors: np.ndarray, k: int) -> np.ndarray:
    """The rows of `vectors` with the largest products, best first.

    Blocks of queries bound the memory: 128 MB of products, or one query's.

    Args:
        queries: (n, dim).
        vectors: (m, dim).
        k: at most m.

    Returns:
        (n, k) int32.
    """
    block = max(_BLOCK_BYTES // (4 * len(vectors)), 1)
    found = []
    for start in range(0, len(queries), block):
        products = tf.matmul(queries[start : start + block], vectors, transpose_b=True)
        found.append(tf.math.top_k(products, k).indices.numpy())
    return np.concatenate(found)


def recall(found: np.ndarray, expected: np.ndarray) -> float:
    """Share of the `expected` neighbours that were found; both (n, k)."""
    hits = [
        len(np.intersect1d(ours, theirs))
        for ours, theirs in zip(found, expected, strict=True)
    ]
    return float(np.mean(hits) / expected.shape[1])
