import gin
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.counts import ExampleCount, PositiveCount
from recap_tf.core.means import CTR, PCTR, CalibrationRatio, WeightedMean

ALL = [WeightedMean, CTR, PCTR, CalibrationRatio, ExampleCount, PositiveCount]


@pytest.mark.parametrize(
    "weight, expected",
    [
        (None, [2, 20]),
        (2.0, [2, 20]),
        ([1.0, 3.0], [2.5, 25]),
        ([[1.0], [3.0]], [2.5, 25]),
        ([[1.0, 1.0], [3.0, 0.0]], [2.5, 10]),
    ],
    ids=["none", "scalar", "per example", "per example column", "per value"],
)
def test_shapes_of_weights(weight, expected):
    mean = WeightedMean(tasks=2)
    mean.update_state([[1.0, 10.0], [3.0, 30.0]], weight)
    np.testing.assert_allclose(mean.result(), expected)


def test_a_mean_over_everything_takes_values_of_any_shape():
    mean = WeightedMean()
    mean.update_state([[1.0, 2.0], [3.0, 4.0]], sample_weight=[1.0, 0.0])
    assert mean.result() == 1.5


@pytest.mark.parametrize("kind", ALL)
def test_config_round_trip(kind):
    metric = kind(tasks=3, name="mine", dtype="float32")
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(copy) is kind
    assert copy.get_config() == metric.get_config()
    assert copy.tasks == 3 and copy.name == "mine" and copy.dtype == "float32"


@pytest.mark.parametrize("kind", ALL[1:])
def test_reset_merge_and_graph_mode_agree_with_plain_use(kind):
    rng = np.random.default_rng(5)
    labels, predictions = rng.integers(0, 2, [2, 20, 3]), rng.uniform(size=[2, 20, 3])
    weights = rng.integers(0, 3, [2, 20, 3])
    plain, merged, in_graph = kind(tasks=3), kind(tasks=3), kind(tasks=3)
    plain.update_state(labels[0] * 0 + 1, predictions[0])
    plain.reset_state()

    @tf.function
    def step(*batch):
        in_graph.update_state(*batch)
        return in_graph.result()

    for batch in zip(labels, predictions, weights, strict=True):
        plain.update_state(*batch)
        shard = kind(tasks=3)
        shard.update_state(*batch)
        merged.merge_state([shard])
        value = step(*map(tf.constant, batch))
    np.testing.assert_allclose(merged.result(), plain.result(), rtol=1e-12)
    np.testing.assert_allclose(value, plain.result(), rtol=1e-12)


def test_metrics_can_be_named_in_a_config():
    gin.configurable("metric_under_test", module="tests.means")(lambda metric: metric)
    try:
        gin.parse_config(
            "metric_under_test.metric = @CTR()\nCTR.tasks = 4\n", skip_unknown=False
        )
        assert gin.get_configurable("metric_under_test")().tasks == 4
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: WeightedMean(tasks=0), "tasks must be at least 1, or None.*: 0"),
        (
            lambda: WeightedMean(tasks=2).update_state([[1.0, 2.0, 3.0]]),
            r"^values of weighted_mean must have the shape \[batch, 2\].*\(1, 3\)$",
        ),
        (
            lambda: WeightedMean(tasks=2).update_state([1.0, 2.0]),
            r"^values of weighted_mean must have the shape \[batch, 2\].*\(2,\)$",
        ),
        (
            lambda: CTR(tasks=2).merge_state([CTR(tasks=3)]),
            "Only CTR with tasks=2 can be merged into ctr.*CTR with tasks=3",
        ),
        (
            lambda: CTR().merge_state([PCTR()]),
            "Only CTR with tasks=None can be merged into ctr.*Received: PCTR",
        ),
    ],
    ids=["no tasks", "too many columns", "no columns", "merge tasks", "merge class"],
)
def test_mistakes_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_an_update_inside_a_replica_is_refused(monkeypatch):
    class Replica:
        num_replicas_in_sync = 2

    mean = WeightedMean()
    monkeypatch.setattr(tf.distribute, "get_replica_context", Replica)
    with pytest.raises(ValueError, match=r"inside strategy\.run on one of 2 replicas"):
        mean.update_state([1.0])
