"""Cells hold all vectors, and find most neighbours in few of them."""

import numpy as np
import tensorflow as tf

from twhin_tf.exporting.inverted_file import CellIndex, InvertedFile
from twhin_tf.exporting.neighbours import exact_neighbours, recall


def test_cells_find_most_neighbours_and_search_few_vectors():
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(40, 16)) * 2
    vectors = centres[rng.integers(40, size=4000)] + rng.normal(size=(4000, 16))
    # Popular nodes are longer.
    vectors *= rng.lognormal(0, 0.4, (4000, 1))
    vectors = vectors.astype(np.float32)
    queries = vectors[:200]
    expected = exact_neighbours(queries, vectors, 10)
    index = CellIndex(vectors, InvertedFile(probes=8), 10)
    scores, rows = index(tf.constant(queries))
    assert recall(rows.numpy(), expected) > 0.9
    assert index.probes * index.largest < 4000 / 3
    np.testing.assert_allclose(
        scores, np.einsum("qd,qkd->qk", queries, vectors[rows.numpy()]), rtol=1e-4
    )
    # Few cells hold fewer vectors than are asked for: more are searched.
    index = CellIndex(vectors[:50], InvertedFile(cells=10, probes=1), 50)
    _, rows = index(tf.constant(queries[:3]))
    assert sorted(rows[0].numpy().tolist()) == list(range(50))


def test_no_cell_is_empty_or_too_large():
    # Most vectors are the same.
    vectors = np.ones((300, 4), np.float32)
    vectors[:20] = np.random.default_rng(0).normal(size=(20, 4))
    cells = InvertedFile(cells=10, largest=2.0).sort(vectors)
    assert sorted(np.concatenate(cells).tolist()) == list(range(300))
    assert min(map(len, cells)) >= 1 and max(map(len, cells)) <= 60
