"""The preprocessors, by hand and against the reference."""

import json

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.normalization import BatchNorm
from recap_tf.model.preprocessors import (
    ClipLog1pAbs,
    DoubleNormLog,
    Log1pAbs,
    ZScoreLog,
    log1p_abs,
    replace_non_finite,
)

E_MINUS_1 = np.e - 1


def test_golden_elementwise_transforms(golden):
    arrays = golden("elementwise_transforms")
    x = tf.constant(arrays["x"])
    chain = tf.clip_by_value(log1p_abs(replace_non_finite(x)), -5.0, 5.0)
    for name, ours in {
        "log_transform": log1p_abs(x),
        "input_non_finite_fill0": replace_non_finite(x),
        "input_non_finite_fill_minus2": replace_non_finite(x, -2.0),
        "clamp_pm5": tf.clip_by_value(x, -5.0, 5.0),
        "clamp_m1_p3": tf.clip_by_value(x, -1.0, 3.0),
        "non_finite_then_log_then_clamp5": chain,
    }.items():
        # TensorFlow flushes denormals, below 1.2e-38, to zero.
        np.testing.assert_allclose(
            ours, arrays[name], rtol=1e-6, atol=1.2e-38, err_msg=name
        )


def _golden_layer(arrays) -> DoubleNormLog:
    names = "".join(arrays)
    batch_norm = {"momentum": 1.0 - float(arrays["batch_norm_momentum_torch"])}
    return DoubleNormLog(
        clip_magnitude=float(arrays["clip_magnitude"]),
        batch_norm=batch_norm if "weight/double_norm_log.batch_norm" in names else None,
        layer_norm_epsilon=float(arrays["layer_norm_epsilon"])
        if "weight/double_norm_log.layer_norm" in names
        else None,
    )


def _inputs(arrays, batch: str) -> dict[str, tf.Tensor]:
    return {name: arrays[f"{batch}/{name}"] for name in ("continuous", "binary")}


@pytest.mark.parametrize("case", ["eps0", "eps1e-3", "no_layer_norm", "no_batch_norm"])
def test_golden_double_norm_log(golden, assign_weights, reference_weights, case):
    arrays = golden(f"double_norm_log_{case}")
    layer = _golden_layer(arrays)
    batches = sorted(
        {name.split("/")[0] for name in arrays if name.startswith("train_")}
    )
    assert batches
    layer(_inputs(arrays, batches[0]))
    assign_weights(layer, arrays, "weight/double_norm_log.")
    theirs = reference_weights(layer, "double_norm_log.")
    has_batch_norm = layer.batch_norm is not None
    for batch in batches:
        with tf.GradientTape() as tape:
            output = layer(_inputs(arrays, batch), training=True)
            total = tf.reduce_sum(output * arrays[f"{batch}/output_cotangent"])
        error = np.abs(output - arrays[f"{batch}/output"])
        # A constant column: its variance is 0, and dividing by sqrt(1e-5) amplifies
        # the rounding of its mean.
        values = arrays[f"{batch}/continuous"]
        constant = np.zeros(error.shape[1], bool)
        constant[: values.shape[1]] = has_batch_norm & (values.std(axis=0) == 0)
        assert error[:, constant].max(initial=0.0) < 2e-4
        assert error[:, ~constant].max() < (1e-5 if has_batch_norm else 5e-6)
        trained = {n: v for n, v in theirs.items() if f"{batch}/grad/{n}" in arrays}
        for name, gradient in tape.gradient(total, trained).items():
            np.testing.assert_allclose(
                gradient, arrays[f"{batch}/grad/{name}"], atol=1e-4, err_msg=name
            )
    for name, variable in theirs.items():
        # Every batch's `after` in the files is the value after the last batch.
        after = f"{batches[-1]}/after/{name}"
        if after in arrays:
            # A mean near 0 carries the rounding of the values that it averages.
            np.testing.assert_allclose(
                variable, arrays[after], rtol=1e-5, atol=2e-8, err_msg=name
            )
    output = layer(_inputs(arrays, "eval"), training=False)
    np.testing.assert_allclose(output, arrays["eval/output"], atol=5e-6)


def test_golden_double_norm_log_row_without_variance(golden):
    arrays = golden("double_norm_log_zero_row")
    inputs = {name: arrays[name] for name in ("continuous", "binary")}
    released = DoubleNormLog(batch_norm=None, layer_norm_epsilon=0.0)(inputs).numpy()
    np.testing.assert_allclose(released[1], arrays["output_eps0"][1], atol=1e-6)
    assert np.isnan(released[0]).all() and np.isnan(arrays["output_eps0"][0]).all()
    safe = DoubleNormLog(batch_norm=None)(inputs).numpy()
    np.testing.assert_array_equal(safe[0], 0.0)


@pytest.mark.parametrize(
    "layer, expected",
    [
        (Log1pAbs(), [[0, 1, -1, 0, 0]]),
        (ClipLog1pAbs(clip_magnitude=1.0), [[0, np.log(2), -np.log(2), 0, 0]]),
        (
            ZScoreLog(log_mean=[0, 1, 0, 0, 2], log_std=[1, 1, 0.5, 1, 0]),
            [[0, 0, -2, 0, 0]],
        ),
        (
            ZScoreLog(log_mean=[3, 0, 0, 0, 0], log_std=[1] * 5, clip_magnitude=0.5),
            [[-0.5, 0.5, -0.5, 0, 0]],
        ),
    ],
    ids=["log", "clip then log", "z-score", "z-score clipped"],
)
def test_fixed_preprocessors(layer, expected):
    continuous = np.array([[0, E_MINUS_1, -E_MINUS_1, np.nan, np.inf]], np.float32)
    binary = np.array([[1, 0]])
    output = layer({"continuous": continuous, "binary": binary})
    np.testing.assert_allclose(output, np.hstack([expected, binary]), atol=1e-6)


def test_z_score_reads_the_statistics_that_convert_wrote(tmp_path):
    path = tmp_path / "columns.json"
    columns = [{"log_mean": 1.0, "log_std": 2.0}, {"log_mean": 0.0, "log_std": 1.0}]
    path.write_text(json.dumps({"continuous": columns}))
    layer = ZScoreLog(statistics=str(path))
    output = layer({"continuous": np.array([[0.0, E_MINUS_1]], np.float32)})
    np.testing.assert_allclose(output, [[-0.5, 1.0]], atol=1e-6)
    with pytest.raises(ValueError, match=r"2 columns .*columns.json.* has 3"):
        ZScoreLog(statistics=str(path))({"continuous": np.zeros((1, 3), np.float32)})


def test_z_score_then_batch_norm_centres_a_batch():
    layer = ZScoreLog(log_mean=[0.0], log_std=[1.0], batch_norm={"affine": False})
    batch = {"continuous": np.array([[1.0], [2.0], [5.0]], np.float32)}
    np.testing.assert_allclose(np.mean(layer(batch, training=True)), 0, atol=1e-6)


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: DoubleNormLog(clip_magnitude=0), "DoubleNormLog.clip_magnitude"),
        (lambda: ZScoreLog(), "either statistics, or log_mean and log_std"),
        (lambda: ZScoreLog(statistics="nowhere.json"), "'nowhere.json' does not exist"),
        (lambda: BatchNorm(momentum=1.0), r"BatchNorm.momentum must be in \[0, 1\)"),
    ],
    ids=["clip", "no statistics", "no file", "momentum"],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    "layer",
    [
        DoubleNormLog(clip_magnitude=3.0, batch_norm={"affine": False}),
        Log1pAbs(),
        ClipLog1pAbs(10.0),
        ZScoreLog(log_mean=[0.5, 0.0], log_std=[2.0, 1.0]),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_usable_alone_saved_and_loaded(layer, tmp_path):
    inputs = {
        "continuous": keras.Input((2,)),
        "binary": keras.Input((1,), dtype="int64"),
    }
    model = keras.Model(inputs, layer(inputs))
    batch = {"continuous": np.random.rand(4, 2) * 9, "binary": np.ones((4, 1))}
    model(batch, training=True)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(batch), loaded(batch))


def test_batch_norm_of_one_row_keeps_a_finite_variance():
    layer = BatchNorm()
    layer(np.ones((1, 2), np.float32), training=True)
    assert np.isfinite(layer.moving_variance).all()
