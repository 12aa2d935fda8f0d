"""What holds for every metric."""

import functools

import gin
import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.auroc import AUROC
from recap_tf.metrics.average_precision import AveragePrecision
from recap_tf.metrics.binned_auroc import BinnedAUROC, BinnedAUROCBound
from recap_tf.metrics.calibration_error import CalibrationError
from recap_tf.metrics.calibration_ratio import CalibrationRatio
from recap_tf.metrics.ctr import CTR, PCTR
from recap_tf.metrics.example_count import ExampleCount, PositiveCount
from recap_tf.metrics.grouped_auroc import GAUCCoverage, GroupedAUROC
from recap_tf.metrics.hit_rate import HitRate
from recap_tf.metrics.log_loss import LogLoss
from recap_tf.metrics.machinery.weighted_mean import WeightedMean
from recap_tf.metrics.mrr import MeanReciprocalRank
from recap_tf.metrics.ndcg import NDCG
from recap_tf.metrics.normalized_entropy import NormalizedEntropy
from recap_tf.metrics.nrce import NRCE
from recap_tf.metrics.precision_recall import Precision, Recall
from recap_tf.metrics.rank_of_positives import (
    HitRateOfPositives,
    PositionOfPositives,
    ReciprocalRankOfPositives,
)
from recap_tf.metrics.rce import RCE
from recap_tf.metrics.sampled_auroc import SampledAUROC

GROUPED = [GroupedAUROC, GAUCCoverage, NDCG, MeanReciprocalRank, HitRate]
BY_BATCH = [PositionOfPositives, ReciprocalRankOfPositives, HitRateOfPositives]
EXACT = [AUROC, AveragePrecision, CalibrationError]
STREAMED = [CTR, PCTR, CalibrationRatio, ExampleCount, PositiveCount, RCE]
STREAMED += [NormalizedEntropy, LogLoss, Precision, Recall, BinnedAUROC]
ALL = [*STREAMED, *EXACT, *GROUPED, *BY_BATCH, NRCE, SampledAUROC]
# These depend on which examples come in one batch; on the order of merging none does.
BATCH_MATTERS = [*BY_BATCH, NRCE, SampledAUROC]


def examples(n, tasks=2, seed=5, users=None):
    """Labels that depend on the predictions, ties, weights with zeros, groups."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-0.5, 1.2, size=[n, tasks])
    predictions = (1 / (1 + np.exp(-logits))).round(2).clip(0.01, 0.99)
    labels = rng.uniform(size=[n, tasks]) < predictions**1.4
    weights = rng.exponential(size=[n, tasks]) * (rng.uniform(size=[n, tasks]) < 0.9)
    groups = rng.integers(-3, users or max(1, n // 20), size=n)
    return labels.astype(float), predictions, weights, groups


def update(metric, batch):
    labels, predictions, weights, groups = batch
    if metric.needs_groups:
        metric.update_state(labels, predictions, weights, groups=groups)
    else:
        metric.update_state(labels, predictions, weights)


def state(metric):
    return np.stack([metric.result(), metric.standard_error()])


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


@pytest.mark.parametrize("kind", [WeightedMean, *ALL])
def test_config_round_trip(kind):
    metric = kind(tasks=3, name="mine", dtype="float32")
    copy = keras.metrics.deserialize(keras.metrics.serialize(metric))
    assert type(copy) is kind
    assert copy.get_config() == metric.get_config()
    assert copy.tasks == 3 and copy.name == "mine" and copy.dtype == "float32"


@pytest.mark.parametrize(
    "metric",
    [
        NDCG(k=3),
        MeanReciprocalRank(k=4, label_threshold=2.0),
        HitRate(k=5, label_threshold=2.0),
        HitRateOfPositives(k=6, label_threshold=2.0),
        PositionOfPositives(label_threshold=2.0),
        ReciprocalRankOfPositives(label_threshold=2.0),
        GroupedAUROC(label_threshold=2.0),
        GAUCCoverage(label_threshold=2.0),
        SampledAUROC(pairs=7, seed=3, label_threshold=2.0),
        BinnedAUROC(bins=9, limit=3.0, from_logits=True, label_threshold=2.0),
        BinnedAUROCBound(bins=9, limit=3.0, from_logits=True, label_threshold=2.0),
        CalibrationError(bins=4, label_threshold=2.0),
        AveragePrecision(label_threshold=2.0),
        Precision(threshold=0.2, label_threshold=2.0),
        Recall(threshold=0.2, label_threshold=2.0),
        LogLoss(from_logits=True, epsilon=1e-3),
        NormalizedEntropy(label_smoothing=0.1, from_logits=True, epsilon=1e-3),
    ],
    ids=lambda metric: type(metric).__name__,
)
def test_settings_survive_a_config_round_trip(metric):
    default = type(metric)().get_config()
    config = keras.metrics.deserialize(keras.metrics.serialize(metric)).get_config()
    assert config == metric.get_config()
    own = {name for name in config if name not in ("name", "dtype", "tasks")}
    assert own and all(config[name] != default[name] for name in own)


@pytest.mark.parametrize("kind", ALL)
def test_reset_merge_and_graph_mode_agree_with_plain_use(kind):
    plain, merged, in_graph = kind(tasks=2), kind(tasks=2), kind(tasks=2)
    update(plain, examples(30, seed=1))
    plain.reset_state()

    @tf.function
    def step(*batch):
        update(in_graph, batch)
        return in_graph.result(), in_graph.standard_error()

    for seed in (2, 3):
        batch = examples(40, seed=seed)
        update(plain, batch)
        shard = kind(tasks=2)
        if kind is SampledAUROC:
            shard.batches.assign(plain.batches - 1)  # draws as the plain one did
        update(shard, batch)
        merged.merge_state([shard])
        value = step(*map(tf.constant, batch))
    if kind is not NRCE:
        np.testing.assert_allclose(state(merged), state(plain), rtol=1e-10)
    np.testing.assert_allclose(np.stack(value), state(plain), rtol=1e-10)
    assert np.isfinite(state(plain)).all()


@pytest.mark.parametrize("kind", ALL)
def test_any_split_and_any_order_of_merging_give_the_same(kind):
    rng = np.random.default_rng(41)
    arrays = examples(400, users=25)
    whole = kind(tasks=2)
    update(whole, arrays)
    for _ in range(2):
        rows = rng.permutation(400)
        cuts = np.sort(rng.integers(0, 401, 3))
        shards = []
        for part in np.split(rows, cuts):
            shards.append(kind(tasks=2))
            update(shards[-1], [array[part] for array in arrays])
        found = []
        for _ in range(2):
            merged = kind(tasks=2)
            for shard in rng.permutation(np.array(shards, dtype=object)):
                merged.merge_state([shard])
            found.append(state(merged))
        np.testing.assert_allclose(found[1], found[0], rtol=1e-9)
        if kind not in BATCH_MATTERS:
            np.testing.assert_allclose(found[0], state(whole), rtol=1e-9)


@pytest.mark.parametrize("kind", ALL)
def test_what_weighs_nothing_is_not_there_even_if_nan(kind):
    labels, predictions, weights, groups = examples(60, seed=9, users=4)
    weights[40:] = 0
    with_them, without = kind(tasks=2), kind(tasks=2)
    update(without, [a[:40] for a in (labels, predictions, weights, groups)])
    predictions[40:50] = np.nan
    update(with_them, (labels, predictions, weights, groups))
    np.testing.assert_allclose(state(with_them), state(without), rtol=1e-12)


@pytest.mark.parametrize("kind", ALL)
def test_one_value_over_all_tasks_is_that_of_all_rows_in_one_column(kind):
    labels, predictions, weights, groups = examples(50, seed=4, users=5)
    together, column = kind(), kind(tasks=1)
    update(together, (labels, predictions, weights, groups))
    as_column = [a.reshape(-1, 1) for a in (labels, predictions, weights)]
    update(column, (*as_column, np.repeat(groups, 2)))
    assert together.result().shape == together.standard_error().shape == ()
    np.testing.assert_allclose(state(together), state(column)[:, 0], rtol=1e-12)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.filterwarnings("ignore:.*has no value:RuntimeWarning")
def test_without_examples_there_is_no_value_and_no_error(kind):
    metric = kind(tasks=2)
    for batch in (None, [array[:0] for array in examples(3)]):
        if batch:
            update(metric, batch)
        value, error = state(metric)
        assert np.isnan(error).all()
        if kind in (ExampleCount, PositiveCount):
            np.testing.assert_array_equal(value, [0, 0])
        else:
            assert np.isnan(value).all()


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.filterwarnings("ignore:.*has no value:RuntimeWarning")
def test_one_example_has_no_standard_error_but_a_counted_one(kind):
    metric = kind(tasks=1)
    update(metric, ([[1.0]], [[0.7]], [[2.0]], [3]))
    expected = 1 if kind in (ExampleCount, PositiveCount) else np.nan
    np.testing.assert_array_equal(metric.standard_error(), [expected])


@pytest.mark.parametrize("kind", ALL)
def test_a_nan_score_shows(kind):
    if kind in (CTR, ExampleCount, PositiveCount, GAUCCoverage):
        return  # do not look at scores
    metric = kind(tasks=2)
    labels, predictions, weights, groups = examples(40, seed=6, users=2)
    weights += 1
    labels[7], predictions[7, 1] = 1, np.nan
    for rows in (slice(0, 20), slice(20, None)):
        update(metric, [a[rows] for a in (labels, predictions, weights, groups)])
    np.testing.assert_array_equal(np.isnan(state(metric)), [[False, True]] * 2)


REPLICATES = 400


def bootstrapped(metric, batch, counts):
    """The metric's value on resamples, one per column; counts [rows, REPLICATES].

    To the value, a row drawn twice is a row of twice the weight.
    """
    labels, predictions, weights, groups = batch
    labels, predictions = (np.tile(a, [1, REPLICATES]) for a in (labels, predictions))
    update(metric, (labels, predictions, weights * counts, groups))
    return tf.function(metric.result)().numpy()


@pytest.mark.parametrize(
    "kind",
    [
        CTR,
        PCTR,
        CalibrationRatio,
        RCE,
        NormalizedEntropy,
        NRCE,
        LogLoss,
        functools.partial(Precision, threshold=0.4),
        functools.partial(Recall, threshold=0.4),
        AUROC,
        functools.partial(BinnedAUROC, bins=512),
        AveragePrecision,
        CalibrationError,
    ],
    ids=lambda kind: getattr(kind, "__name__", None) or kind.func.__name__,
)
def test_standard_error_is_that_of_a_bootstrap(kind):
    n = 2000
    batch = examples(n, 1, seed=12)
    metric = kind(tasks=1)
    update(metric, batch)
    rng = np.random.default_rng(13)
    counts = rng.multinomial(n, np.full(n, 1 / n), REPLICATES).T
    found = bootstrapped(kind(tasks=REPLICATES), batch, counts)
    # The deviation of 400 replicates is itself within 3.5 %, one sigma.
    claimed = float(metric.standard_error()[0])
    assert claimed == pytest.approx(np.std(found), rel=0.12)


@pytest.mark.parametrize("kind", GROUPED)
def test_standard_error_of_grouped_metrics_is_that_of_a_bootstrap_over_groups(kind):
    users = 300
    rng = np.random.default_rng(16)
    # Users of different sizes, so that the value is a ratio.
    groups = np.repeat(np.arange(users), rng.integers(2, 15, users))
    batch = *examples(len(groups), 1, seed=15)[:3], groups
    metric = kind(tasks=1)
    update(metric, batch)
    counts = rng.multinomial(users, np.full(users, 1 / users), REPLICATES).T
    found = bootstrapped(kind(tasks=REPLICATES), batch, counts[groups])
    claimed = float(metric.standard_error()[0])
    assert claimed == pytest.approx(np.std(found), rel=0.12)


@pytest.mark.parametrize("kind", [*BY_BATCH, SampledAUROC])
def test_standard_error_of_lists_is_that_of_a_bootstrap_over_batches(kind):
    lists, n = 60, 20
    batches = [examples(n, 1, seed=seed) for seed in range(lists)]
    metric, apart = kind(tasks=1), kind(tasks=lists)

    @tf.function
    def step(*batch):
        metric.update_state(*batch)

    for batch in batches:
        step(*map(tf.constant, batch[:3]))
    # The same lists side by side, each one a column of a single batch.
    apart.update_state(*np.concatenate(np.stack([b[:3] for b in batches]), axis=2))
    values, weights = apart.mean.numpy(), apart.weight_sum.numpy()
    drawn = np.random.default_rng(18).integers(0, lists, [1000, lists])
    values, weights = values[drawn], weights[drawn]
    found = (values * weights).sum(axis=1) / weights.sum(axis=1)
    assert float(metric.result()[0]) == pytest.approx(found.mean(), rel=0.02)
    claimed = float(metric.standard_error()[0])
    assert claimed == pytest.approx(found.std(), rel=0.12)


@pytest.mark.parametrize("kind", STREAMED)
def test_a_billion_examples_are_as_exact_as_a_thousand(kind):
    # A metric that has seen 1e9 examples' worth of weight takes in single ones.
    labels, predictions, _, _ = examples(1000, 1, seed=21)
    large, small = kind(tasks=1), kind(tasks=1)

    @tf.function
    def stream(weight, labels, predictions):
        for _ in tf.range(100):
            large.update_state(labels, predictions, weight)

    for rows, weight in ((slice(0, 500), 2e4), (slice(500, None), 1.0)):
        stream(np.float64(weight), labels[rows], predictions[rows])
        share = [[weight * 100]] * 500
        small.update_state(labels[rows], predictions[rows], share)
    if kind in (ExampleCount, PositiveCount):
        np.testing.assert_array_equal(large.result(), 100 * small.result())
    else:
        np.testing.assert_allclose(large.result(), small.result(), rtol=1e-9)


@pytest.mark.parametrize("kind", [CTR, BinnedAUROC, AUROC, GroupedAUROC, SampledAUROC])
def test_variables_of_a_distribution_strategy_serve_as_well(kind):
    plain = kind(tasks=2)
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    with strategy.scope():
        mirrored = kind(tasks=2)
    for seed in (1, 2):
        update(plain, examples(40, seed=seed))
        with strategy.scope():
            update(mirrored, examples(40, seed=seed))
    np.testing.assert_allclose(state(mirrored), state(plain), rtol=1e-12)


@pytest.mark.parametrize("kind", [ExampleCount, PositiveCount])
def test_a_count_does_not_stop_at_what_float32_can_count(kind):
    count = kind()
    count.count.assign(1e9)
    count.update_state([1.0, 1.0, 1.0])
    assert float(count.result()) == 1e9 + 3


def test_metrics_can_be_named_in_a_config():
    gin.configurable("metric_under_test", module="tests.means")(lambda metric: metric)
    try:
        gin.parse_config(
            "metric_under_test.metric = @CTR()\nCTR.tasks = 4\n", skip_unknown=False
        )
        assert gin.get_configurable("metric_under_test")().tasks == 4
        for kind in ALL:
            gin.clear_config()
            gin.parse_config(f"metric_under_test.metric = @{kind.__name__}()\n")
            assert type(gin.get_configurable("metric_under_test")()) is kind
    finally:
        gin.clear_config()


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: WeightedMean(tasks=0),
            "^tasks must be at least 1, or None for one value over everything.*: 0$",
        ),
        (
            lambda: WeightedMean(tasks=2).update_state([[1.0, 2.0, 3.0]]),
            r"^values of weighted_mean must have the shape \(batch, 2\).*\(1, 3\)$",
        ),
        (
            lambda: WeightedMean(tasks=2).update_state([1.0, 2.0]),
            r"^values of weighted_mean must have the shape \(batch, 2\).*\(2,\)$",
        ),
        (
            lambda: CTR(tasks=2).merge_state([CTR(tasks=3)]),
            "Only CTR with tasks=2 can be merged into ctr.*CTR with tasks=3",
        ),
        (
            lambda: CTR().merge_state([PCTR()]),
            r"^Only CTR can be merged into ctr\. Received: PCTR$",
        ),
        (
            lambda: NDCG(k=3).merge_state([NDCG(k=3, name="shard"), NDCG(k=5)]),
            r"^Only NDCG with k=3 can be merged into ndcg\. Received: NDCG with k=5$",
        ),
    ],
    ids=[
        "no tasks",
        "too many columns",
        "no columns",
        "merge tasks",
        "merge class",
        "merge k",
    ],
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


def test_what_a_metric_uses_must_be_there():
    for metric in (CTR(), AUROC()):
        with pytest.raises(ValueError, match=f"^{metric.name} needs labels"):
            metric.update_state(None, [0.5])
    with pytest.raises(ValueError, match=r"^auroc needs predictions\. Received: None$"):
        AUROC().update_state([1])


def test_groups_do_not_matter_to_a_metric_that_needs_none():
    with_groups, without = RCE(), RCE()
    with_groups.update_state([1, 0], [0.7, 0.4], groups=[3, 4])
    without.update_state([1, 0], [0.7, 0.4])
    assert with_groups.result() == without.result()


@pytest.mark.parametrize("kind", [WeightedMean, *ALL])
def test_the_name_is_that_of_the_class_unless_given(kind):
    assert kind().name == kind(name=None).name == kind.default_name
    assert kind(name="by_hand").name == "by_hand"
