"""Downsampling of negatives, against the reference and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data.downsampling import DownsampleNegatives


def _batch(features=None, labels=((0,), (1,)), weights=None):
    labels = tf.constant(labels, tf.int64)
    weights = tf.ones(labels.shape) if weights is None else tf.constant(weights)
    features = {name: tf.constant(value) for name, value in (features or {}).items()}
    return features, labels, weights


def test_golden_downsample_negatives(golden):
    arrays = golden("data_downsample_negatives")
    cases = sorted({name.split("/")[0] for name in arrays})
    assert len(cases) > 1
    for case in cases:
        labels = arrays[f"{case}/in/labels"]
        tasks = [f"task_{i}" for i in range(labels.shape[1])]
        step = DownsampleNegatives(
            batch_multiplier=int(arrays[f"{case}/batch_multiplier"]),
            engagements=[tasks[i] for i in arrays[f"{case}/engagement_label_columns"]],
        )
        batch = _batch(
            {"continuous": arrays[f"{case}/in/continuous"]},
            labels,
            arrays.get(f"{case}/in/weights"),
        )
        features, labels, weights = step(batch, tasks)
        np.testing.assert_array_equal(
            features["continuous"], arrays[f"{case}/out/continuous"], err_msg=case
        )
        np.testing.assert_array_equal(labels, arrays[f"{case}/out/labels"])
        np.testing.assert_allclose(weights, arrays[f"{case}/out/weights"], rtol=1e-6)


def test_downsampling_to_a_batch_of_one():
    step = DownsampleNegatives(batch_multiplier=2, engagements=["like"])
    features, labels, weights = step(_batch({"x": [[1], [2]]}), ["like"])
    assert (features["x"], labels, weights) == ([[2]], [[1]], [[1.0]])


def test_downsampling_keeps_the_mean_of_every_task():
    rng = np.random.default_rng(1)
    labels = (rng.random((64_000, 2)) < [0.05, 0.2]).astype(int)
    labels[:, 1] |= labels[:, 0] & (rng.random(64_000) < 0.5)
    step = DownsampleNegatives(batch_multiplier=10, engagements=["like"])
    sampled, weights = [], []
    for part in np.split(labels, 100):
        _, batch_labels, batch_weights = step(_batch(labels=part), ["like", "reply"])
        assert batch_labels.shape == (64, 2)
        sampled.append(batch_labels)
        weights.append(batch_weights)
    weighted = np.sum(np.concatenate(sampled) * np.concatenate(weights), axis=0)
    means = weighted / np.sum(np.concatenate(weights), axis=0)
    # Of the listed task exactly; of another one as far as chance allows.
    assert means[0] == pytest.approx(labels[:, 0].mean(), rel=1e-5)
    assert means[1] == pytest.approx(labels[:, 1].mean(), rel=0.1)


def test_surplus_positives_are_told(capfd):
    step = DownsampleNegatives(batch_multiplier=2, engagements=["like"])
    step(_batch(labels=[[1], [1], [1], [0]]), ["like"])
    assert "3 positives for 2 places" in capfd.readouterr().err
