"""The MLP, by hand and against the reference."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.mlp import MLP


def _settings(arrays, case) -> dict:
    weights = [n for n in arrays if n.startswith(f"{case}/weight/mlp.dense_")]
    sizes = [len(arrays[n]) for n in weights if n.endswith(".bias")]
    has_batch_norm = any(f"{case}/weight/mlp.batch_norm" in n for n in arrays)
    return {
        "layer_sizes": sizes,
        "batch_norm": {
            "affine": any(f"{case}/weight" in n and "gamma" in n for n in arrays)
        }
        if has_batch_norm
        else None,
        "final_layer_activation": case.endswith("final_act"),
    }


# The files do not hold it; torch's is one minus ours.
MOMENTUM = {"bn_no_affine": 0.9, "bn_affine_final_act": 0.7}


def test_golden_mlp_training_and_evaluation(golden, assign_weights, reference_weights):
    arrays = golden("mlp")
    cases = sorted({name.split("/")[0] for name in arrays})
    assert len(cases) > 1
    for case in cases:
        settings = _settings(arrays, case)
        batches = sorted(
            {n.split("/")[1] for n in arrays if n.startswith(f"{case}/train_")}
        )
        if settings["batch_norm"] is not None and batches:
            settings["batch_norm"]["momentum"] = MOMENTUM[case]
        layer = MLP(**settings, dropout=0.2 if "dropout" in case else 0.0)
        layer(arrays[f"{case}/eval/x"])
        assign_weights(layer, arrays, f"{case}/weight/mlp.")
        ours = reference_weights(layer, "mlp.")
        for batch in batches:
            prefix = f"{case}/{batch}"
            with tf.GradientTape() as tape:
                output, shared = layer(
                    arrays[f"{prefix}/x"], training=True, return_shared_layer=True
                )
                total = tf.reduce_sum(output * arrays[f"{prefix}/output_cotangent"])
            np.testing.assert_allclose(output, arrays[f"{prefix}/output"], atol=1e-5)
            np.testing.assert_allclose(
                shared, arrays[f"{prefix}/shared_layer"], atol=1e-5
            )
            trained = {n: v for n, v in ours.items() if f"{prefix}/grad/{n}" in arrays}
            assert trained
            for name, gradient in tape.gradient(total, trained).items():
                expected = arrays[f"{prefix}/grad/{name}"]
                expected = expected.T if name.endswith("weight_out_in") else expected
                np.testing.assert_allclose(gradient, expected, atol=1e-4, err_msg=name)
        for name, variable in ours.items():
            # Every batch's `after` in the files is the value after the last batch.
            if batches and f"{case}/{batches[-1]}/after/{name}" in arrays:
                np.testing.assert_allclose(
                    variable, arrays[f"{case}/{batches[-1]}/after/{name}"], atol=1e-5
                )
        output, shared = layer(
            arrays[f"{case}/eval/x"], training=False, return_shared_layer=True
        )
        np.testing.assert_allclose(output, arrays[f"{case}/eval/output"], atol=1e-5)
        np.testing.assert_allclose(
            shared, arrays[f"{case}/eval/shared_layer"], atol=1e-5
        )


def test_two_layers_by_hand():
    layer = MLP([2, 1])
    layer(np.zeros((1, 1), np.float32))
    weights = [[[1.0, -1.0]], [0.0, 0.0], [[2.0], [3.0]], [0.5]]
    layer.set_weights([np.array(weight) for weight in weights])
    output = layer(np.array([[4.0], [-4.0]], np.float32))
    np.testing.assert_allclose(output, [[8.5], [12.5]])


def test_dropout_drops_in_training_only():
    layer = MLP([400, 1], dropout=0.5)
    x = np.ones((1, 3), np.float32)
    layer(x)
    np.testing.assert_array_equal(layer(x), layer(x))
    assert not np.array_equal(layer(x, training=True), layer(x, training=True))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"layer_sizes": []}, "MLP.layer_sizes"),
        ({"layer_sizes": [4, 0]}, r"Received: \[4, 0\]"),
        ({"layer_sizes": [4, 1], "dropout": 1.0}, r"Dropout.rate must be in \[0, 1\)"),
    ],
    ids=["none", "zero", "dropout"],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        MLP(**settings)


def test_usable_alone_saved_and_loaded(tmp_path):
    inputs = keras.Input((3,))
    layer = MLP([5, 2], batch_norm={"momentum": 0.5}, final_layer_activation=True)
    model = keras.Model(inputs, layer(inputs))
    x = np.random.rand(8, 3).astype(np.float32)
    model(x, training=True)
    model.save(tmp_path / "model.keras")
    np.testing.assert_array_equal(
        model(x), keras.models.load_model(tmp_path / "model.keras")(x)
    )
