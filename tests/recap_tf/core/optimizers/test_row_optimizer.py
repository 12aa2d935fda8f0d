"""Optimizers of large tables, against their formulas in numpy."""

import re

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.command import UserError
from recap_tf.core.config.gin_names import resolve
from recap_tf.core.config.gin_text import read_override
from recap_tf.core.optimizers.lazy_adam import LazyAdam
from recap_tf.core.optimizers.learning_rate_schedules import PiecewiseConstant
from recap_tf.core.optimizers.row_optimizer import add_up
from recap_tf.core.optimizers.sparse_adagrad import RowWiseAdagrad, SparseAdagrad
from recap_tf.core.optimizers.sparse_ftrl import SparseFTRL
from recap_tf.core.optimizers.sparse_sgd import SparseSGD

TABLE = np.array([[1.0, -2.0], [0.5, 0.25], [3.0, 1.0], [-1.0, 0.0]], np.float32)
# (rows, their gradients) per step; row 2 of step 0 comes twice, row 1 never.
STEPS = [
    ([2, 0, 2], [[0.5, 1.0], [1.0, -1.0], [0.5, -3.0]]),
    ([0, 3], [[0.1, 0.2], [-1.0, 2.0]]),
    ([2, 3], [[1.0, 1.0], [0.0, 0.5]]),
]
RATES = [0.1, 0.1, 0.05]


def _sums(rows, gradients) -> dict[int, np.ndarray]:
    sums = {}
    for row, gradient in zip(rows, gradients, strict=True):
        sums[row] = sums.get(row, np.zeros(2)) + np.array(gradient)
    return sums


def _train(optimizer, table: tf.Variable) -> None:
    for rows, gradients in STEPS:
        slices = tf.IndexedSlices(tf.constant(gradients), tf.constant(rows), (4, 2))
        optimizer.apply_gradients([(slices, table)])


def _sgd(w, g, state, rate, t):
    return w - rate * g


def _adagrad(w, g, state, rate, t):
    state["a"] = state.get("a", 0.1) + g**2
    return w - rate * g / (np.sqrt(state["a"]) + 1e-7)


def _row_wise_adagrad(w, g, state, rate, t):
    state["a"] = state.get("a", 0.1) + np.mean(g**2)
    return w - rate * g / (np.sqrt(state["a"]) + 1e-7)


def _lazy_adam(w, g, state, rate, t):
    state["m"] = 0.8 * state.get("m", 0.0) + 0.2 * g
    state["v"] = 0.9 * state.get("v", 0.0) + 0.1 * g**2
    m, v = state["m"] / (1 - 0.8**t), state["v"] / (1 - 0.9**t)
    return w - rate * m / (np.sqrt(v) + 1e-3)


def _ftrl(w, g, state, rate, t):
    old = state.get("a", np.full(2, 0.1))
    state["a"] = old + g**2
    change = (np.sqrt(state["a"]) - np.sqrt(old)) / rate
    z = state["z"] = state.get("z", 0.0) + g - change * w
    shrunk = -(z - np.sign(z) * 0.2) / (np.sqrt(state["a"]) / rate + 2 * 0.1)
    return np.where(np.abs(z) > 0.2, shrunk, 0.0)


CASES = [
    (SparseSGD, {}, _sgd),
    (SparseAdagrad, {}, _adagrad),
    (RowWiseAdagrad, {}, _row_wise_adagrad),
    (LazyAdam, {"beta_1": 0.8, "beta_2": 0.9, "epsilon": 1e-3}, _lazy_adam),
    (SparseFTRL, {"l1": 0.2, "l2": 0.1}, _ftrl),
]
ALL = pytest.mark.parametrize(
    "make, settings, formula", CASES, ids=[case[0].__name__ for case in CASES]
)


@ALL
def test_touched_rows_follow_the_formula_and_others_stay(make, settings, formula):
    expected, states = TABLE.astype(np.float64), {}
    for t, (rows, gradients) in enumerate(STEPS):
        for row, g in _sums(rows, gradients).items():
            state = states.setdefault(row, {})
            expected[row] = formula(expected[row], g, state, RATES[t], t + 1)
    table = tf.Variable(TABLE)
    _train(make(PiecewiseConstant([2], [0.1, 0.05]), **settings), table)
    np.testing.assert_allclose(table.numpy(), expected, rtol=2e-5, atol=1e-6)
    np.testing.assert_array_equal(table.numpy()[1], TABLE[1])


@ALL
def test_within_a_graph_the_same(make, settings, formula):
    eager, traced = tf.Variable(TABLE), tf.Variable(TABLE)
    _train(make(0.1, **settings), eager)
    optimizer = make(0.1, **settings)
    optimizer._create_all_weights([traced])
    tf.function(_train)(optimizer, traced)
    np.testing.assert_allclose(traced.numpy(), eager.numpy(), rtol=1e-6)


@ALL
def test_reset_rows_start_anew_and_others_keep_their_state(make, settings, formula):
    table, optimizer = tf.Variable(TABLE), make(0.1, **settings)
    _train(optimizer, table)
    slots = {name: optimizer.get_slot(table, name) for name in optimizer.slot_starts()}
    before = {name: slot.numpy() for name, slot in slots.items()}
    assert (len(optimizer.weights) - 1) == len(slots)
    optimizer.reset_rows(table, tf.constant([2, 0], tf.int64))
    for name, start in optimizer.slot_starts().items():
        assert (before[name][[0, 2]] != np.float32(start)).any()
        assert (slots[name].numpy()[[0, 2]] == np.float32(start)).all()
        np.testing.assert_array_equal(slots[name].numpy()[3], before[name][3])


@ALL
def test_state_of_one_row_does_not_read_the_others(make, settings, formula):
    """NaN in all rows but one: whatever reads them spreads it."""
    table = tf.Variable(TABLE)
    optimizer = make(0.1, **settings)
    optimizer._create_all_weights([table])
    for name in optimizer.slot_starts():
        slot = optimizer.get_slot(table, name)
        poisoned = np.full(slot.shape, np.nan, np.float32)
        poisoned[3] = slot.numpy()[3]
        slot.assign(poisoned)
    slices = tf.IndexedSlices(tf.constant([[0.3, 0.4]]), tf.constant([3]))
    optimizer.apply_gradients([(slices, table)])
    np.testing.assert_array_equal(table.numpy()[:3], TABLE[:3])
    assert np.isfinite(table.numpy()[3]).all()


@pytest.mark.parametrize("make", [case[0] for case in CASES])
def test_saves_and_loads_by_its_config(make):
    optimizer = make(learning_rate=0.25)
    stored = keras.saving.serialize_keras_object(optimizer)
    again = keras.saving.deserialize_keras_object(stored)
    assert type(again) is make
    assert again.get_config() == optimizer.get_config()


@pytest.mark.parametrize(
    "optimizer, expected",
    [
        (SparseSGD(), {}),
        (
            SparseAdagrad(initial_accumulator_value=0.3),
            {"initial_accumulator_value": 0.3},
        ),
        (
            LazyAdam(beta_1=0.7, beta_2=0.8, epsilon=0.01),
            {"beta_1": 0.7, "beta_2": 0.8, "epsilon": 0.01, "lazy_adam": True},
        ),
        (
            SparseFTRL(l1=0.1, l2=0.2, initial_accumulator_value=0.3),
            {
                "l1_regularization_strength": 0.1,
                "l2_regularization_strength": 0.2,
                "initial_accumulator_value": 0.3,
                "learning_rate_power": -0.5,
            },
        ),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_embedding_cores_of_a_tpu_get_the_same_settings(optimizer, expected):
    on_tpu = optimizer.as_tpu(0.05)
    assert on_tpu.learning_rate == 0.05
    for name, value in expected.items():
        assert getattr(on_tpu, name) == value


def test_row_wise_adagrad_is_not_for_tpus():
    with pytest.raises(ValueError, match="RowWiseAdagrad does not exist on TPUs"):
        RowWiseAdagrad().as_tpu(0.1)


def test_row_wise_adagrad_keeps_one_number_per_row():
    table, optimizer = tf.Variable(TABLE), RowWiseAdagrad()
    _train(optimizer, table)
    assert optimizer.get_slot(table, "accumulator").shape == (4,)


@ALL
def test_dense_gradients_are_those_of_all_rows(make, settings, formula):
    sparse, dense = tf.Variable(TABLE), tf.Variable(TABLE)
    gradient = tf.constant(TABLE) * 2
    every = tf.IndexedSlices(gradient, tf.range(4))
    make(0.1, **settings).apply_gradients([(every, sparse)])
    make(0.1, **settings).apply_gradients([(gradient, dense)])
    np.testing.assert_allclose(sparse.numpy(), dense.numpy(), rtol=1e-6)


def test_row_wise_adagrad_rejects_a_negative_start():
    with pytest.raises(
        ValueError,
        match=r"RowWiseAdagrad.initial_accumulator_value must be at least 0\. .*-1.0",
    ):
        RowWiseAdagrad(initial_accumulator_value=-1.0)


@pytest.mark.parametrize(
    "setting, value",
    [("learning_rate_power", 0.5), ("l1", -1.0), ("initial_accumulator_value", -1.0)],
)
def test_ftrl_rejects_what_it_cannot_be(setting, value):
    with pytest.raises(ValueError, match=rf"SparseFTRL.{setting} .*Received: {value}"):
        SparseFTRL(**{setting: value})


def test_ftrl_takes_another_power():
    # By hand: a = .1, then 1.1; z = 1 - (1.1^.25 - .1^.25) / .5 * 2; w = -z / (..).
    table = tf.Variable([[2.0]])
    slices = tf.IndexedSlices(tf.constant([[1.0]]), tf.constant([0]))
    optimizer = SparseFTRL(0.5, learning_rate_power=-0.25)
    optimizer.apply_gradients([(slices, table)])
    z = 1 - (1.1**0.25 - 0.1**0.25) / 0.5 * 2
    np.testing.assert_allclose(table.numpy(), [[-z / (1.1**0.25 / 0.5)]], rtol=1e-5)


@pytest.mark.parametrize(
    "name", ["SparseSGD", "SparseAdagrad", "RowWiseAdagrad", "LazyAdam", "SparseFTRL"]
)
def test_a_rate_that_the_table_would_overrule_is_refused(name):
    binding = read_override(f"{name}.learning_rate=0.1", "")
    message = (
        f"{name}.learning_rate cannot be set: its value is that of "
        "TableSpec.learning_rate. Set that."
    )
    with pytest.raises(UserError, match=re.escape(message)):
        resolve(binding)


@pytest.mark.parametrize("dim", [4, 64], ids=["narrow", "wide"])
def test_sgd_takes_a_row_that_comes_twice_twice(dim):
    table = tf.Variable(tf.ones([5, dim]))
    gradients = np.arange(3.0, dtype=np.float32)[:, None] + np.ones(
        (3, dim), np.float32
    )
    slices = tf.IndexedSlices(gradients, tf.constant([3, 0, 3]), tf.constant([5, dim]))
    SparseSGD(learning_rate=0.5).apply_gradients([(slices, table)])
    expected = np.ones((5, dim))
    expected[3] -= 0.5 * (1.0 + 3.0)
    expected[0] -= 0.5 * 2.0
    np.testing.assert_allclose(table, expected)


@ALL
def test_a_batch_without_rows_changes_nothing(make, settings, formula):
    table = tf.Variable(tf.ones([5, 64]))
    nothing = tf.IndexedSlices(
        tf.zeros([0, 64]), tf.zeros([0], tf.int64), tf.constant([5, 64])
    )
    make(**settings).apply_gradients([(nothing, table)])
    np.testing.assert_array_equal(table, np.ones((5, 64)))


def test_gradients_of_a_row_are_added_up():
    gradient = tf.constant([[1.0], [2.0], [4.0], [8.0]])
    summed, rows = add_up(gradient, tf.constant([7, 2, 7, 0], tf.int64))
    np.testing.assert_array_equal(rows, [0, 2, 7])
    np.testing.assert_array_equal(summed, [[8.0], [2.0], [5.0]])
