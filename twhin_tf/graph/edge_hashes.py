"""Numbers that look random and are the same on every machine."""

import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def mixed(numbers: np.ndarray) -> np.ndarray:
    """uint64 hashes of whole numbers; a one-to-one map.

    The finalizer of SplitMix64 (Steele, Lea, Flood 2014).
    """
    # Of arrays: a scalar's overflow, which is meant here, would warn.
    x = np.atleast_1d(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hashes(column: pa.Array) -> np.ndarray:
    """uint64 hashes of integers or texts. Few texts in a thousand million collide."""
    if pa.types.is_integer(column.type):
        return mixed(column.to_numpy(zero_copy_only=False))
    encoded = column.dictionary_encode()
    texts = encoded.dictionary.cast(pa.large_binary()).to_pylist()
    # Two checksums with different starts: 32 bits alone collide too often.
    low = np.fromiter(map(zlib.crc32, texts), np.uint64, len(texts))
    high = np.fromiter(map(zlib.adler32, texts), np.uint64, len(texts))
    table = mixed(low | high << np.uint64(32))
    return table[pc.fill_null(encoded.indices, 0).to_numpy()]


def hashed_edges(edges: np.ndarray) -> np.ndarray:
    """uint64 hashes of (n, 3) edges; equal edges have equal ones."""
    lhs, rel, rhs = edges.T
    return mixed(mixed(mixed(lhs) ^ rel.astype(np.uint64)) ^ rhs.astype(np.uint64))
