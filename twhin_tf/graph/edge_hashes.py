"""Hashes of edges and of their ids, the same on every machine.

They deal edges out to splits and to buckets on disk: what falls where is up to the ids
alone, and no table of what has fallen where is held in memory.
"""

import zlib

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc


def mix(numbers: np.ndarray) -> np.ndarray:
    """Maps whole numbers one to one to uint64 that look random.

    The finalizer of SplitMix64 (Steele, Lea, Flood 2014).

    >>> hex(mix(np.array([0]))[0])
    '0xe220a8397b1dcdaf'
    """
    # Of arrays: a scalar's overflow, which is meant here, would warn.
    x = np.atleast_1d(numbers).astype(np.uint64) + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def hash_ids(ids: pa.Array) -> np.ndarray:
    """Hashes n integers or texts to (n,) uint64.

    Integers never collide; of a thousand million texts few do.
    """
    if pa.types.is_integer(ids.type):
        return mix(ids.to_numpy(zero_copy_only=False))
    encoded = ids.dictionary_encode()
    texts = encoded.dictionary.cast(pa.large_binary()).to_pylist()
    # Two checksums with different starts: 32 bits alone collide too often.
    low = np.fromiter(map(zlib.crc32, texts), np.uint64, len(texts))
    high = np.fromiter(map(zlib.adler32, texts), np.uint64, len(texts))
    hashes = mix(low | high << np.uint64(32))
    return hashes[pc.fill_null(encoded.indices, 0).to_numpy()]


def hash_edges(edges: np.ndarray) -> np.ndarray:
    """Hashes (n, 3) edges to (n,) uint64; equal edges have equal hashes."""
    lhs, rel, rhs = edges.T
    return mix(mix(mix(lhs) ^ rel.astype(np.uint64)) ^ rhs.astype(np.uint64))
