"""Edges dealt out to files on disk, and back in random order, in bounded memory.

However many there are, no more than one bucket is in memory: this is how edges are
shuffled, and how equal ones are found.
"""

import contextlib
import posixpath
from collections.abc import Iterator
from typing import Literal

import numpy as np
import tensorflow as tf

Equal = Literal["pass", "count", "drop"]
EDGES_PER_BUCKET = 2_000_000
# Files open at the same time.
_MOST_BUCKETS = 500


def bucket_count(edges: int) -> int:
    """The number of buckets into which to deal so many edges, at most 500."""
    return min(max(-(-edges // EDGES_PER_BUCKET), 1), _MOST_BUCKETS)


class EdgeBuckets:
    """Files of int32 edges, open for additions until they are read; use as a context.

    Args:
        folder: where the files are; made at the start, removed at the end.
        count: files, all open at the same time; see `bucket_count`.
        seed: of the order in which a bucket's edges come back.
    """

    def __init__(self, folder: str, count: int, seed: int):
        self._folder, self._seed = folder, seed
        self._paths = [posixpath.join(folder, f"bucket-{i:05d}") for i in range(count)]
        self._files = []

    def __enter__(self) -> "EdgeBuckets":
        tf.io.gfile.makedirs(self._folder)
        self._files = [tf.io.gfile.GFile(path, "wb") for path in self._paths]
        for file in self._files:
            # A file that nothing is written to would not be there.
            file.write(b"")
        return self

    def __exit__(self, *error) -> None:
        self._close()
        with contextlib.suppress(tf.errors.NotFoundError):
            tf.io.gfile.rmtree(self._folder)

    def add(self, edges: np.ndarray, hashes: np.ndarray) -> None:
        """Deals out (n, 3) edges by their (n,) uint64 hashes, and by nothing else."""
        numbers = (hashes % np.uint64(len(self._paths))).astype(np.int64)
        order = np.argsort(numbers, kind="stable")
        ends = np.cumsum(np.bincount(numbers, minlength=len(self._paths)))
        data = np.ascontiguousarray(edges[order].astype("<i4"))
        for file, part in zip(self._files, np.split(data, ends[:-1]), strict=True):
            if len(part):
                file.write(part.tobytes())

    def read(self, equal: Equal = "pass") -> Iterator[tuple[np.ndarray, int]]:
        """Yields each bucket's ((n, 3) int32 edges in random order, repeated ones).

        The order is the same every time. After the first call nothing can be added.

        Args:
            equal: "pass" does not look for edges that are equal to earlier ones;
                "count" counts them, "drop" leaves them out and counts them. These two
                need hashes that are equal for equal edges.
        """
        self._close()
        for i, path in enumerate(self._paths):
            with tf.io.gfile.GFile(path, "rb") as file:
                edges = np.frombuffer(file.read(), "<i4").reshape(-1, 3)
            repeated = 0
            if equal != "pass" and len(edges):
                first = _first_of_equals(edges)
                repeated = len(edges) - int(first.sum())
                if equal == "drop":
                    edges = edges[first]
            rng = np.random.default_rng([self._seed, i])
            yield edges[rng.permutation(len(edges))], repeated

    def _close(self) -> None:
        for file in self._files:
            file.close()
        self._files = []


def _first_of_equals(edges: np.ndarray) -> np.ndarray:
    """Returns (n,) booleans: False for an edge that is equal to an earlier one."""
    most = [int(largest) + 1 for largest in edges.max(axis=0)]
    if most[0] * most[1] * most[2] < 2**63:
        # One number for each edge sorts in a third of the time.
        lhs, rel, rhs = edges.T.astype(np.int64)
        order = np.argsort((lhs * most[1] + rel) * most[2] + rhs, kind="stable")
    else:
        order = np.lexsort(edges.T)
    ordered = edges[order]
    new = np.ones(len(edges), bool)
    new[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    # Both sorts are stable: the first of equals is the earliest.
    first = np.empty(len(edges), bool)
    first[order] = new
    return first
