"""MMoE and PLE against their equations, and what they refuse."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.dcn import DCN
from recap_tf.model.dlrm import DLRM
from recap_tf.model.mlp import MLP
from recap_tf.model.mmoe import MMoE
from recap_tf.model.ple import CGC, PLE


def _x(n=4, width=3):
    return np.random.rand(n, width).astype(np.float32)


def _softmax(scores):
    exp = np.exp(scores - scores.max(axis=1, keepdims=True))
    return exp / exp.sum(axis=1, keepdims=True)


def _mix(gate, selector, experts):
    """sum_i softmax(selector W)_i * expert_i, eq. 6 and 7 of MMoE, 1 of PLE."""
    weights = _softmax(np.asarray(selector) @ gate.score.kernel.numpy())
    return sum(weights[:, i : i + 1] * np.asarray(e) for i, e in enumerate(experts))


def test_mmoe_is_that_of_the_paper():
    x = _x()
    layer = MMoE([lambda: MLP([5]), lambda: MLP([4, 5])], num_tasks=3)
    outputs = layer(x)
    experts = [expert(x) for expert in layer.experts]
    assert len(outputs) == 3
    assert [tuple(w.shape) for w in layer.gates[0].weights] == [(3, 2)]  # no bias
    for output, gate in zip(outputs, layer.gates, strict=True):
        np.testing.assert_allclose(output, _mix(gate, x, experts), rtol=1e-4, atol=1e-6)


def test_a_gate_by_hand():
    x = np.array([[1.0]], np.float32)
    layer = MMoE([MLP([1]), MLP([1])], num_tasks=1)
    layer(x)
    for expert, value in zip(layer.experts, [8.0, 4.0], strict=True):
        expert.set_weights([np.zeros((1, 1)), np.array([value])])
    layer.gates[0].score.kernel.assign([[np.log(3.0), 0.0]])  # 3 : 1
    np.testing.assert_allclose(layer(x)[0], [[0.75 * 8 + 0.25 * 4]], rtol=1e-6)
    np.testing.assert_allclose(layer.gate_weights(x)[0], [[0.75, 0.25]], rtol=1e-6)


def test_cgc_gives_each_task_its_own_and_the_shared_experts():
    x = _x()
    layer = CGC([lambda: MLP([5])] * 2, [lambda: MLP([5])], num_tasks=2)
    outputs = layer(x)
    own = [expert(x) for expert in layer.task_experts]
    shared = [expert(x) for expert in layer.shared_experts]
    assert len(own) == 4 and len(shared) == 1 and len(outputs) == 2
    for t, output in enumerate(outputs):
        expected = _mix(layer.gates[t], x, [*own[2 * t : 2 * t + 2], *shared])
        np.testing.assert_allclose(output, expected, rtol=1e-4, atol=1e-6)


def test_ple_is_that_of_the_paper():
    x = _x()
    layer = PLE(
        [
            lambda: CGC([lambda: MLP([5])], [lambda: MLP([5])] * 2),
            lambda: CGC([lambda: MLP([6])] * 2, [lambda: MLP([6])]),
        ],
        num_tasks=2,
    )
    outputs = layer(x)
    first, second = layer.levels
    own = [expert(x) for expert in first.task_experts]
    shared = [expert(x) for expert in first.shared_experts]
    x1 = _mix(first.gates[0], x, [own[0], *shared])
    x2 = _mix(first.gates[1], x, [own[1], *shared])
    xs = _mix(first.gates[2], x, [*own, *shared])
    shared = second.shared_experts[0](xs)
    assert len(outputs) == 2
    for t, xt in enumerate([x1, x2]):
        own = [expert(xt) for expert in second.task_experts[2 * t : 2 * t + 2]]
        experts = [*own, shared]
        np.testing.assert_allclose(
            outputs[t], _mix(second.gates[t], xt, experts), rtol=1e-3, atol=1e-5
        )


def test_gate_weights_of_every_level():
    x = _x()
    layer = PLE(
        [CGC([lambda: MLP([5])] * 2, [MLP([5])]), CGC([lambda: MLP([5])], [MLP([5])])],
        num_tasks=2,
    )
    layer(x)
    shapes = [[tuple(w.shape) for w in level] for level in layer.gate_weights(x)]
    assert shapes == [[(4, 3), (4, 3), (4, 5)], [(4, 2), (4, 2)]]
    for level in layer.gate_weights(x):
        for weights in level:
            np.testing.assert_allclose(np.sum(weights, axis=1), 1.0, rtol=1e-5)


def test_one_tasks_gradient_leaves_the_others_experts_alone():
    x = _x()
    layer = CGC([lambda: MLP([5])], [lambda: MLP([5])], num_tasks=2)
    layer(x)
    mine, others = (expert.trainable_weights for expert in layer.task_experts)
    with tf.GradientTape() as tape:
        loss = tf.reduce_sum(layer(x)[0] ** 2)
    gradients = tape.gradient(loss, [*mine, *others])
    assert all(g is not None for g in gradients[: len(mine)])
    assert all(g is None for g in gradients[len(mine) :])


def test_experts_that_want_fields_get_them():
    fields = {"dense": _x(width=2), "user": _x(width=3)}
    layer = MMoE(
        [lambda: DLRM(3, lambda: MLP([5]), lambda: MLP([3])), lambda: MLP([5])],
        num_tasks=2,
    )
    outputs = layer(fields)
    flat = np.concatenate(list(fields.values()), axis=1)
    experts = [layer.experts[0](fields), layer.experts[1](flat)]
    expected = _mix(layer.gates[1], flat, experts)
    np.testing.assert_allclose(outputs[1], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda: MMoE([MLP([5]), MLP([4])], num_tasks=1)(_x()),
            r"MMoE.experts must all end in the same number .* Received: \[5, 4\]",
        ),
        (lambda: MMoE([]), "MMoE.experts must name at least one expert"),
        (lambda: MMoE([MLP([5])])(_x()), "MMoE.num_tasks must be at least 1"),
        (lambda: CGC([], [MLP([5])]), "CGC.task_experts must name at least one"),
        (lambda: CGC([lambda: MLP([5])], []), "CGC.shared_experts must name at least"),
        (lambda: CGC([MLP([5])], [MLP([5])]), "CGC.task_experts must be factories"),
        (
            lambda: CGC([lambda: MLP([5])], [MLP([4])], num_tasks=2)(_x()),
            r"CGC.task_experts and shared_experts must all .* Received: \[5, 5, 4\]",
        ),
        (lambda: PLE([]), "PLE.levels must name at least one CGC"),
        (lambda: PLE([MLP([5])]), "PLE.levels must be CGCs. Received"),
        (
            lambda: PLE([CGC([lambda: MLP([5])], [MLP([5])])])(_x()),
            "PLE.num_tasks must be at least 1",
        ),
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: MMoE([lambda: MLP([5]), lambda: MLP([5])], num_tasks=2),
        lambda: CGC(
            [lambda: DCN(1, output_mlp=MLP([5]))] * 2, [lambda: MLP([5])], num_tasks=2
        ),
        lambda: PLE(
            [
                lambda: CGC([lambda: MLP([4, 5])] * 2, [lambda: MLP([5])]),
                lambda: CGC([lambda: MLP([6])], [lambda: MLP([6])]),
            ],
            num_tasks=2,
        ),
    ],
    ids=["mmoe", "cgc", "ple"],
)
def test_usable_alone_saved_and_loaded(tmp_path, make):
    inputs = keras.Input((3,))
    model = keras.Model(inputs, make()(inputs))
    x = _x(8)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    for mine, theirs in zip(model(x), loaded(x), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MMoE([MLP([5])], name="mixture"),
        lambda: CGC([lambda: MLP([5])], [MLP([5])], name="mixture"),
        lambda: PLE(
            [CGC([lambda: MLP([5])], [MLP([5])]), CGC([lambda: MLP([5])], [MLP([5])])],
            name="mixture",
        ),
    ],
    ids=["MMoE", "CGC", "PLE"],
)
def test_a_backbone_for_tasks_is_another_layer_of_the_same_name(make):
    layer = make()
    two, three = layer.for_tasks(2), layer.for_tasks(3)
    assert layer.num_tasks is None and not layer.built
    assert [len(backbone(_x())) for backbone in (two, three)] == [2, 3]
    assert two.name == three.name == "mixture"
    assert two.for_tasks(2) is two
    with pytest.raises(ValueError, match=r"num_tasks must be 3, .* Received: 2"):
        two.for_tasks(3)


def test_only_levels_below_another_have_a_shared_gate():
    levels = [CGC([lambda: MLP([5])], [lambda: MLP([5])]) for _ in range(3)]
    stacked = PLE(levels, num_tasks=2).levels
    assert [level.shared_gate for level in stacked] == [True, True, False]
    assert [level.name for level in stacked] == [level.name for level in levels]
    assert not any(level.shared_gate or level.num_tasks for level in levels)
