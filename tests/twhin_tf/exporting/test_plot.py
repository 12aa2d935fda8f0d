"""A projection keeps apart what is apart."""

import numpy as np
import pytest

from twhin_tf.exporting.plot import project


@pytest.mark.parametrize("method", ["tsne", "pca"])
def test_a_projection_keeps_clusters_apart(method):
    rng = np.random.default_rng(0)
    group = np.arange(60) % 2
    vectors = np.where(group[:, None], 1.0, -1.0) + rng.normal(size=(60, 5)) * 0.1
    points = project(vectors.astype(np.float32), method)
    centres = np.stack([points[group == number].mean(axis=0) for number in (0, 1)])
    distances = np.linalg.norm(points[:, None] - centres, axis=2)
    assert (distances.argmin(axis=1) == group).all()
