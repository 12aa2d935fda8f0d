"""Hashes of ids: as published, without collisions of integers, evenly spread."""

import numpy as np
import tensorflow as tf

from recap_tf.core.embeddings.id_hashing import HashedRows, fingerprints, mix


def test_splitmix_as_published():
    # The first outputs of SplitMix64 from seed 1234567.
    step = 0x9E3779B97F4A7C15
    seeds = [(1234567 + i * step) % 2**64 for i in range(2)]
    expected = [6457827717110365317, 3203168211198807973]
    assert mix(tf.constant(seeds, tf.uint64)).numpy().tolist() == expected


def test_fingerprints_of_integers_never_collide():
    ids = tf.constant([*range(-5000, 5000), 2**62, -(2**63)], tf.int64)
    assert len(set(fingerprints(ids).numpy().tolist())) == len(ids)


def test_hashed_rows_spread_evenly():
    finder = HashedRows("users", 10)
    ids = {"a": tf.range(10_000, dtype=tf.int64), "b": tf.constant(["x", "y", "x"])}
    rows = finder(ids)
    counts = np.bincount(rows["a"].numpy(), minlength=10)
    assert len(counts) == 10 and abs(counts - 1000).max() < 150
    assert rows["b"][0] == rows["b"][2]
