"""DCN against its equations."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.dcn import DCN
from recap_tf.model.mlp import MLP


def _randomize(layer):
    for weight in layer.weights:
        weight.assign(np.random.normal(size=weight.shape, scale=0.5))


def _crosses(layer, x0):
    """Equation 1, or with three weights per cross equation 2, in float64."""
    x = x0.astype(np.float64)
    for cross in layer.crosses:
        *matrices, bias = [weight.numpy() for weight in cross.weights]
        x = x0 * (x @ np.linalg.multi_dot([*matrices, np.eye(x0.shape[1])]) + bias) + x
    return x


@pytest.mark.parametrize("projection_dim", [None, 2], ids=["full", "low rank"])
def test_crosses_are_those_of_the_paper(projection_dim):
    x = np.random.rand(4, 5).astype(np.float32)
    layer = DCN(poly_degree=3, projection_dim=projection_dim)
    layer(x)
    _randomize(layer)
    shapes = [tuple(weight.shape) for weight in layer.crosses[0].weights]
    assert shapes == (
        [(5, 5), (5,)] if projection_dim is None else [(5, 2), (2, 5), (5,)]
    )
    np.testing.assert_allclose(layer(x), _crosses(layer, x), rtol=2e-5)


def test_a_cross_by_hand():
    layer = DCN(poly_degree=1)
    layer(np.zeros((1, 2), np.float32))
    layer.crosses[0].set_weights([np.array([[1, 0], [1, 0]]), np.array([0.5, 2])])
    # x_0 * (x_0 W + b) + x_0 = [3 * (3 + 4 + .5) + 3, 4 * (0 + 2) + 4]
    np.testing.assert_allclose(layer(np.array([[3.0, 4.0]])), [[25.5, 12.0]])


def test_diag_scale_adds_to_the_diagonal():
    x = np.random.rand(4, 3).astype(np.float32)
    plain, scaled = DCN(1), DCN(1, diag_scale=0.5)
    plain(x), scaled(x)
    scaled.set_weights(plain.get_weights())
    np.testing.assert_allclose(scaled(x), plain(x) + 0.5 * x * x, rtol=1e-5)


def test_parallel_stacked_and_output_mlp():
    x = np.random.rand(4, 3).astype(np.float32)
    parallel = DCN(2, mlp=lambda: MLP([6]), use_parallel=True)
    out = parallel(x)
    np.testing.assert_allclose(out[:, :3], _crosses(parallel, x), rtol=1e-5)
    np.testing.assert_allclose(out[:, 3:], parallel.mlp(x), rtol=1e-5)

    stacked = DCN(2, mlp=lambda: MLP([6]))
    stacked(x)
    crossed = _crosses(stacked, x).astype(np.float32)
    np.testing.assert_allclose(stacked(x), stacked.mlp(crossed), rtol=1e-4, atol=1e-6)

    both = DCN(2, mlp=MLP([6]), use_parallel=True, output_mlp=lambda: MLP([7]))
    out = both(x)
    seen = np.concatenate([_crosses(both, x), both.mlp(x)], axis=1)
    expected = both.output_mlp(seen.astype(np.float32))
    np.testing.assert_allclose(out, expected, rtol=1e-4, atol=1e-6)


def test_learns_a_product_that_a_linear_model_cannot():
    x = np.random.normal(size=(512, 4)).astype(np.float32)
    y = x[:, :1] * x[:, 1:2]
    inputs = keras.Input((4,))
    model = keras.Model(inputs, MLP([1])(DCN(poly_degree=1)(inputs)))
    model.compile(keras.optimizers.Adam(0.02), "mse")
    model.fit(x, y, batch_size=64, epochs=60, verbose=0)
    assert model.evaluate(x, y, verbose=0) < 0.01 * np.var(y)


@pytest.mark.parametrize("projection_dim", [None, 2])
def test_matrix_products_are_bfloat16_where_asked(projection_dim):
    x = tf.random.normal([4, 5])
    exact = DCN(2, projection_dim)
    exact(x)
    keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        layer = DCN(2, projection_dim)
        output = layer(x)
    finally:
        keras.mixed_precision.set_global_policy("float32")
    assert output.dtype == tf.bfloat16
    assert all(weight.dtype == tf.float32 for weight in layer.weights)
    layer.set_weights(exact.get_weights())
    np.testing.assert_allclose(tf.cast(layer(x), tf.float32), exact(x), atol=0.2)
    graph = tf.function(layer).get_concrete_function(tf.TensorSpec([4, 5])).graph
    products = [op for op in graph.get_operations() if op.type == "MatMul"]
    assert products and all(op.outputs[0].dtype == tf.bfloat16 for op in products)


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"poly_degree": 0}, "DCN.poly_degree must be at least 1. Received: 0"),
        ({"projection_dim": 0}, "DCN.projection_dim must be at least 1"),
        ({"diag_scale": -1.0}, "DCN.diag_scale must be at least 0. Received: -1"),
        ({"use_parallel": True}, "DCN.use_parallel puts DCN.mlp beside"),
    ],
)
def test_bad_settings(settings, message):
    with pytest.raises(ValueError, match=message):
        DCN(**settings)


@pytest.mark.parametrize("projection_dim", [None, 2])
def test_usable_alone_saved_and_loaded(tmp_path, projection_dim):
    inputs = keras.Input((3,))
    layer = DCN(
        2,
        projection_dim,
        mlp=lambda: MLP([5, 4], batch_norm={"momentum": 0.5}),
        use_parallel=True,
        output_mlp=lambda: MLP([2]),
        diag_scale=0.25,
    )
    model = keras.Model(inputs, layer(inputs))
    _randomize(layer)
    x = np.random.rand(8, 3).astype(np.float32)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), loaded(x))
    assert loaded.layers[-1].get_config() == layer.get_config()
