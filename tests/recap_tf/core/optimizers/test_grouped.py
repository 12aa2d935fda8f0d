"""Learning-rate schedules and grouped Adam."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.optimizers import learning_rate_schedules as schedules
from recap_tf.core.optimizers.grouped import Adam, GroupedOptimizer, grouped_optimizer

SETTINGS = {
    "learning_rate_boundaries": "boundaries",
    "learning_rate_values": "values",
    "num_ramp_steps": "ramp_steps",
    "final_num_steps": "final_steps",
}
SCHEDULES = {
    "piecewise_constant": schedules.PiecewiseConstant,
    "linear_ramp_to_constant": schedules.LinearRampToConstant,
    "linear_ramp_to_cosine": schedules.LinearRampToCosine,
}


def test_golden_compute_lr(golden):
    arrays = golden("compute_lr")
    with open(golden.path("compute_lr_configs.json")) as file:
        configs = json.load(file)
    assert set(configs) == set(arrays) - {"steps"}
    for case, config in configs.items():
        [(kind, settings)] = config.items()
        if kind == "constant":
            schedule = schedules.ConstantLearningRate(settings)
        else:
            schedule = SCHEDULES[kind](
                **{SETTINGS.get(key, key): value for key, value in settings.items()}
            )
        np.testing.assert_allclose(
            schedule.exact(arrays["steps"]), arrays[case], rtol=1e-12, err_msg=case
        )


def test_schedules_save_and_load():
    for schedule in [
        schedules.ConstantLearningRate(0.5),
        schedules.PiecewiseConstant([2], [1.0, 0.5]),
        schedules.LinearRampToConstant(1.0, 4),
        schedules.LinearRampToCosine(1.0, 4, 0.1, 10),
    ]:
        again = type(schedule).from_config(schedule.get_config())
        np.testing.assert_array_equal(schedule(3), again(3))


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: schedules.LinearRampToConstant(1.0, 0), "ramp_steps must be at least"),
        (lambda: schedules.PiecewiseConstant([1, 2], [0.1]), "one more than its"),
        (lambda: schedules.PiecewiseConstant([2, 1], [0.1] * 3), "must ascend"),
        (lambda: schedules.LinearRampToCosine(1.0, 9, 0.1, 9), "final_steps must be"),
        (
            lambda: schedules.ConstantLearningRate(-1.0),
            "ConstantLearningRate.learning_rate must be at least 0. Received: -1.0",
        ),
    ],
    ids=["ramp", "values", "order", "cosine", "negative"],
)
def test_bad_schedules(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_adam_by_hand():
    weight = tf.Variable([1.0])
    optimizer = Adam(learning_rate=0.1, beta_1=0.9, beta_2=0.99, epsilon=1.0)
    # Bias corrections cancel on a constant gradient: w -= 0.1 * 3 / (3 + 1).
    for step in range(1, 4):
        optimizer.apply_gradients([(tf.constant([3.0]), weight)])
        np.testing.assert_allclose(weight, [1.0 - 0.075 * step], rtol=1e-5)


def test_adam_treats_a_sparse_gradient_as_the_dense_one():
    dense, sparse = tf.Variable(tf.ones([3, 2])), tf.Variable(tf.ones([3, 2]))
    for_dense, for_sparse = Adam(0.1), Adam(0.1)
    for row in (0, 2, 2, 0):
        values = tf.constant([[0.5, -1.0]])
        rows = tf.IndexedSlices(values, tf.constant([row]), tf.constant([3, 2]))
        for_dense.apply_gradients([(tf.convert_to_tensor(rows), dense)])
        for_sparse.apply_gradients([(rows, sparse)])
    np.testing.assert_allclose(dense, sparse, atol=1e-6)


def _groups():
    return {"backbone": [tf.Variable(1.0)], "like": [tf.Variable(1.0, name="w")]}


def test_each_group_has_its_own_rate():
    groups = _groups()
    optimizer = grouped_optimizer(
        groups, schedules.linear_ramps({"backbone": (0.1, 1), "like": (0.2, 1)})
    )
    weights = [*groups["backbone"], *groups["like"]]
    for _ in range(2):  # The ramp's first step has rate 0.
        optimizer.apply_gradients([(tf.constant(1.0), weight) for weight in weights])
    np.testing.assert_allclose(weights, [0.9, 0.8], rtol=1e-5)


@pytest.mark.parametrize(
    "groups, rates, message",
    [
        (_groups(), {"backbone": 0.1}, "no entry for 'like', which holds 1 weights"),
        (
            _groups(),
            {"backbone": 0.1, "like": 0.1, "lik": 0.1},
            "names 'lik', which matches no weight",
        ),
        (
            _groups() | {"none": []},
            {"backbone": 0.1, "like": 0.1, "none": 0.1},
            "names 'none', which matches no weight",
        ),
    ],
    ids=["no rate", "no group", "empty group"],
)
def test_groups_and_rates_must_match(groups, rates, message):
    rates = {k: schedules.ConstantLearningRate(v) for k, v in rates.items()}
    with pytest.raises(ValueError, match=message):
        grouped_optimizer(groups, rates)


def test_a_weight_in_two_groups():
    weight = tf.Variable(1.0, name="shared")
    with pytest.raises(ValueError, match="shared:0 falls in two groups, 'a' and 'b'"):
        grouped_optimizer({"a": [weight], "b": [weight]}, 0.1)


def test_a_rate_told_as_a_number_is_not_brought_back_by_a_checkpoint(tmp_path):
    def updated(rate, restore=None, save=None):
        weights = [tf.Variable(1.0), tf.Variable(1.0)]
        first, added = (
            {name: (keras.optimizers.legacy.SGD(rate), [weight])}
            for name, weight in zip("ab", weights, strict=True)
        )
        optimizer = GroupedOptimizer(first)
        optimizer.add_groups(added)
        if restore:
            tf.train.Checkpoint(optimizer=optimizer).read(restore)
        optimizer.apply_gradients([(tf.constant(1.0), weight) for weight in weights])
        if save:
            tf.train.Checkpoint(optimizer=optimizer).write(save)
        return [float(weight) for weight in weights]

    path = str(tmp_path / "state")
    assert updated(0.5, save=path) == [0.5, 0.5]
    assert updated(0.25, restore=path) == [0.75, 0.75]
