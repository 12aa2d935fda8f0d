"""Mask blocks and MaskNet, by hand and against the reference."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.mask_net import MaskBlock, MaskNet
from recap_tf.model.mlp import MLP


def _block(arrays, prefix) -> MaskBlock:
    """A block of the sizes of the golden weights below `prefix`."""
    return MaskBlock(
        output_size=len(arrays[f"{prefix}hidden_dense.bias"]),
        aggregation_size=len(arrays[f"{prefix}mask_dense_0.bias"]),
        input_layer_norm=f"{prefix}input_layer_norm.gamma" in arrays,
    )


def test_golden_mask_block(golden, assign_weights, reference_weights):
    arrays = golden("mask_block")
    cases = sorted({name.split("/")[0] for name in arrays})
    assert len(cases) > 1
    for case in cases:
        net, mask_input = arrays[f"{case}/net"], arrays[f"{case}/mask_input"]
        block = _block(arrays, f"{case}/weight/mask_block.")
        if case.startswith("reduction_factor"):
            size, width = block.aggregation_size, mask_input.shape[-1]
            block = MaskBlock(
                output_size=block.output_size,
                reduction_factor=1.5 if size > width else 0.37,
                input_layer_norm=block.input_layer_norm is not None,
            )
        net, mask_input = tf.constant(net), tf.constant(mask_input)
        block([net, mask_input])
        assign_weights(block, arrays, f"{case}/weight/mask_block.")
        weights = reference_weights(block, "mask_block.")
        with tf.GradientTape() as tape:
            tape.watch([net, mask_input])
            output = block([net, mask_input])
            total = tf.reduce_sum(output * arrays[f"{case}/output_cotangent"])
        np.testing.assert_allclose(output, arrays[f"{case}/output"], atol=1e-5)
        sources = {"net": net, "mask_input": mask_input, **weights}
        for name, gradient in tape.gradient(total, sources).items():
            stored = f"{case}/grad{'/' if name in weights else '_'}{name}"
            expected = arrays[stored]
            expected = expected.T if name.endswith("weight_out_in") else expected
            np.testing.assert_allclose(gradient, expected, atol=5e-5, err_msg=stored)


def _mask_net(arrays, case) -> MaskNet:
    prefix = f"{case}/weight/mask_net."
    count = len(
        {n.split(".")[1] for n in arrays if n.startswith(f"{prefix}mask_block")}
    )
    mlp = None
    sizes = [
        len(arrays[n])
        for n in sorted(arrays)
        if n.startswith(f"{prefix}mlp.dense") and n.endswith("bias")
    ]
    if sizes:
        batch_norm = any(n.startswith(f"{prefix}mlp.batch_norm") for n in arrays)
        mlp = MLP(
            sizes,
            batch_norm={"momentum": 0.8} if batch_norm else None,
            final_layer_activation=not batch_norm,
        )
    return MaskNet(
        [_block(arrays, f"{prefix}mask_block_{i}.") for i in range(count)],
        mlp,
        parallel=case.startswith("parallel"),
    )


def test_golden_mask_net(golden, assign_weights, reference_weights):
    arrays = golden("mask_net")
    cases = sorted({name.split("/")[0] for name in arrays})
    assert len(cases) > 1
    for case in cases:
        layer = _mask_net(arrays, case)
        layer(arrays[f"{case}/eval/x"])
        assign_weights(layer, arrays, f"{case}/weight/mask_net.")
        for mode in ("eval", "train"):
            output, shared = layer(
                arrays[f"{case}/{mode}/x"],
                training=mode == "train",
                return_shared_layer=True,
            )
            np.testing.assert_allclose(
                output, arrays[f"{case}/{mode}/output"], atol=1e-5, err_msg=case
            )
            np.testing.assert_allclose(
                shared, arrays[f"{case}/{mode}/shared_layer"], atol=1e-5, err_msg=case
            )
        assert output.shape[-1] == arrays[f"{case}/out_features"]
        assert shared.shape[-1] == arrays[f"{case}/shared_size"]
        for name, variable in reference_weights(layer, "mask_net.").items():
            if f"{case}/after_train/{name}" in arrays:
                np.testing.assert_allclose(
                    variable, arrays[f"{case}/after_train/{name}"], atol=1e-5
                )


def test_a_mask_of_zeros_leaves_the_bias():
    block = MaskBlock(output_size=2, aggregation_size=1)
    block([np.zeros((1, 3), np.float32)] * 2)
    block.hidden.bias.assign([5.0, 1.0])
    block.expand.kernel.assign(np.zeros((1, 3)))
    output = block([np.random.rand(4, 3).astype(np.float32)] * 2)
    np.testing.assert_allclose(output, [[1.0, -1.0]] * 4, atol=1e-4)


@pytest.mark.parametrize("parallel, width", [(True, 4 + 6), (False, 6)])
def test_widths_without_an_mlp(parallel, width):
    net = MaskNet([MaskBlock(4, 2), MaskBlock(6, 2)], parallel=parallel)
    assert net(np.zeros((3, 5), np.float32)).shape == (3, width)


def test_stacked_with_an_mlp():
    net = MaskNet([MaskBlock(4, 2), MaskBlock(6, 2)], MLP([7]), parallel=False)
    assert net(np.zeros((3, 5), np.float32)).shape == (3, 7)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: MaskBlock(4), "exactly one of aggregation_size and reduction_factor"),
        (lambda: MaskBlock(4, 2, 0.5), "aggregation_size=2, reduction_factor=0.5"),
        (
            lambda: MaskBlock(4, reduction_factor=0.1)([np.zeros((1, 3))] * 2),
            "leaves no unit of a mask input 3 wide",
        ),
        (lambda: MaskNet([]), "MaskNet.blocks must name at least one block"),
    ],
    ids=["neither", "both", "too small", "no blocks"],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_usable_alone_saved_and_loaded(tmp_path):
    inputs = keras.Input((3,))
    layer = MaskNet(
        [lambda: MaskBlock(4, reduction_factor=0.7, input_layer_norm=True)],
        lambda: MLP([2]),
        parallel=False,
    )
    model = keras.Model(inputs, layer(inputs))
    x = np.random.rand(8, 3).astype(np.float32)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        model(x), keras.models.load_model(tmp_path / "model.keras")(x)
    )
