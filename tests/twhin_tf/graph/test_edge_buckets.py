"""Buckets give every edge back once and find equal ones."""

import numpy as np
import pytest
from small_graphs import (
    ordered,
)

from twhin_tf.graph.edge_buckets import EdgeBuckets
from twhin_tf.graph.edge_hashes import mix


@pytest.mark.parametrize("largest", [6, 2**31 - 1])
def test_buckets_hold_each_edge_once_and_find_equal_ones(tmp_path, largest):
    large = [largest, 1, largest]
    edges = np.array([[1, 0, 2], [3, 0, 4], [1, 0, 2], large, [1, 0, 2]])
    expected = {"pass": (edges, 0), "count": (edges, 2), "drop": (edges[[0, 1, 3]], 2)}
    for equal, (passed, repeated) in expected.items():
        with EdgeBuckets(str(tmp_path / "b"), 2, seed=0) as buckets:
            for part in (edges[:2], edges[2:]):
                buckets.add(part, mix(part[:, 0]))
            read = list(buckets.read(equal))
            again = list(buckets.read(equal))
        together = np.concatenate([part for part, _ in read])
        np.testing.assert_array_equal(ordered(together), ordered(passed))
        assert sum(count for _, count in read) == repeated
        for (before, _), (after, _) in zip(read, again, strict=True):
            np.testing.assert_array_equal(before, after)
        assert not (tmp_path / "b").exists()
