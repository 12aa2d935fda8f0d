"""Hashes are those of SplitMix64, and few of them are equal."""

import numpy as np
import pyarrow as pa

from twhin_tf.graph.edge_hashes import hash_ids, mix


def test_hashes_are_the_same_on_every_machine():
    # The first outputs of SplitMix64 with seed 0.
    assert mix(np.array([0])).tolist() == [0xE220A8397B1DCDAF]
    texts = hash_ids(pa.array(["a", "b", "a"]))
    assert texts[0] == texts[2] != texts[1]
    assert len(np.unique(hash_ids(pa.array(list(map(str, range(100_000))))))) == 100_000
