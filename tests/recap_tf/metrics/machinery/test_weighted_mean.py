import itertools

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.metrics.machinery.weighted_mean import WeightedMean


def test_weighted_mean_of_two_batches_by_hand():
    mean = WeightedMean()
    mean.update_state([1.0, 3.0], sample_weight=[1.0, 3.0])
    assert mean.result() == 2.5
    mean.update_state([10.0], sample_weight=[1.0])
    assert float(mean.result()) == pytest.approx(20 / 5)
    assert mean.weight_sum == 5


def test_each_task_has_its_own_mean():
    mean = WeightedMean(tasks=2)
    mean.update_state([[1.0, 10.0], [3.0, 20.0]], [[1.0, 0.0], [1.0, 2.0]])
    np.testing.assert_allclose(mean.result(), [2, 20])


def test_there_is_no_mean_before_the_first_weight():
    mean = WeightedMean(tasks=2)
    assert np.isnan(mean.result()).all()
    mean.update_state([[5.0, 5.0]], [[0.0, 1.0]])
    np.testing.assert_array_equal(mean.result(), [np.nan, 5])


def test_a_batch_of_zero_weight_changes_nothing_even_with_nan():
    mean = WeightedMean()
    mean.update_state([1.0, 2.0])
    mean.update_state([np.nan, np.inf, 7.0], sample_weight=[0.0, 0.0, 0.0])
    mean.update_state(np.zeros([0]))
    assert mean.result() == 1.5
    assert mean.weight_sum == 2


def test_values_near_the_largest_float32_do_not_overflow_it():
    mean = WeightedMean(dtype="float32")
    for _ in range(3):
        mean.update_state([3e38] * 100, sample_weight=[5.0] * 100)
    assert float(mean.result()) == pytest.approx(3e38, rel=1e-6)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_billion_examples(dtype):
    # The first half of the stream has the label rate 1 %, the second 3 %; each of the
    # 20000 batches stands for 50000 examples.
    mean = WeightedMean(dtype=dtype)

    @tf.function
    def stream():
        for batch in tf.range(20000):
            rate = tf.where(batch < 10000, 0.01, 0.03)
            mean.update_state(rate * [0.5, 1.5], sample_weight=[25000.0, 25000.0])

    stream()
    assert float(mean.weight_sum) == pytest.approx(1e9, rel=1e-3)
    assert float(mean.result()) == pytest.approx(0.02, rel=1e-4)


def test_one_example_after_a_billion_still_counts():
    mean = WeightedMean()
    mean.update_state([0.0], sample_weight=[1e9])
    for _ in range(100):
        mean.update_state([1.0])
    assert float(mean.result()) == pytest.approx(100 / (1e9 + 100), rel=1e-6)


def test_merging_shards_in_any_order_gives_the_mean_of_all():
    rng = np.random.default_rng(3)
    values, weights = rng.normal(size=[4, 30, 2]), rng.uniform(size=[4, 30, 2])
    weights[1] = 0
    shards = [WeightedMean(tasks=2) for _ in range(4)]
    for shard, value, weight in zip(shards, values, weights, strict=True):
        shard.update_state(value, weight)
    expected = np.average(values.reshape(-1, 2), axis=0, weights=weights.reshape(-1, 2))
    for order in itertools.permutations(shards):
        merged = WeightedMean(tasks=2)
        merged.merge_state(order)
        np.testing.assert_allclose(merged.result(), expected, rtol=1e-12)


def test_golden_stable_mean(golden):
    arrays = golden("metrics_stable_mean")
    cases = {key.split("/")[0] for key in arrays if key.endswith("/values")}
    assert cases
    for case in sorted(cases):
        values, weights = arrays[f"{case}/values"], arrays[f"{case}/weights"]
        mean = WeightedMean()
        for batch in range(len(values)):
            weight = weights[batch]
            same = np.all(weight == weight[0])
            mean.update_state(values[batch], weight[0] if same else weight)
            for state, key in [
                (mean.result(), "mean_after_each_batch"),
                (mean.weight_sum, "weight_sum_after_each_batch"),
            ]:
                np.testing.assert_allclose(
                    state, arrays[f"{case}/{key}"][batch], rtol=1e-6, err_msg=case
                )
        np.testing.assert_allclose(
            mean.result(), arrays[f"{case}/exact_mean_float64"], rtol=1e-6, err_msg=case
        )


def test_golden_stable_mean_merged(golden):
    arrays = golden("metrics_stable_mean")
    workers = []
    for value, weight in arrays["merge/states_mean_and_weight_sum"]:
        workers.append(WeightedMean())
        workers[-1].update_state([value], [weight])
    for order in itertools.permutations(workers):
        merged = WeightedMean()
        merged.merge_state(order)
        np.testing.assert_allclose(
            [merged.result(), merged.weight_sum], arrays["merge/merged"], rtol=1e-6
        )
