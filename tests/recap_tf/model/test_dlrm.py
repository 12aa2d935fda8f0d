"""DLRM by hand, in its shapes, and what it refuses."""

import numpy as np
import pytest
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.dlrm import DLRM
from recap_tf.model.mlp import MLP


class _Same(keras.layers.Layer):
    """Hands its input on, so that what a layer gives it can be read."""

    def call(self, inputs):
        return inputs


def _inputs(**parts) -> dict[str, np.ndarray]:
    return {name: np.array(part, np.float32) for name, part in parts.items()}


def test_dot_products_by_hand():
    layer = DLRM(2, top_mlp=_Same, bottom_mlp=_Same)
    out = layer(_inputs(dense=[[1, 2]], user=[[3, 4]], author=[[5, 6]]))
    # d, then user.d, author.d, author.user
    np.testing.assert_allclose(out, [[1, 2, 11, 17, 39]])


def test_self_interaction_by_hand():
    layer = DLRM(2, top_mlp=_Same, bottom_mlp=_Same, self_interaction=True)
    out = layer(_inputs(dense=[[1, 2]], user=[[3, 4]]))
    np.testing.assert_allclose(out, [[1, 2, 5, 11, 25]])


def test_other_widths_are_projected():
    layer = DLRM(2, top_mlp=_Same, bottom_mlp=_Same)
    inputs = _inputs(dense=[[1, 2]], user=[[3, 4, 5]], author=[[5, 6]])
    layer(inputs)
    (projection,) = layer.trainable_weights
    projection.assign([[1, 0], [0, 1], [1, 1]])
    # user becomes [8, 9]
    np.testing.assert_allclose(layer(inputs), [[1, 2, 26, 17, 94]])


def test_dense_and_shared_go_through_the_bottom():
    layer = DLRM(3, top_mlp=_Same, bottom_mlp=_Same)
    out = layer(_inputs(dense=[[1, 2]], user=[[1, 1, 1]], shared=[[5]]))
    np.testing.assert_allclose(out, [[1, 2, 5, 8]])


def test_ids_alone_need_no_bottom():
    layer = DLRM(2, top_mlp=_Same)
    out = layer(_inputs(user=[[3, 4]], author=[[5, 6]]))
    np.testing.assert_allclose(out, [[39]])


def test_one_flat_tensor_makes_vectors_of_its_own():
    layer = DLRM(2, top_mlp=_Same, bottom_mlp=_Same, dense_vectors=2)
    out = layer(np.array([[1, 2, 3, 4]], np.float32))
    np.testing.assert_allclose(out, [[1, 2, 3, 4, 11]])


def test_many_fields_in_the_order_of_the_pairs():
    parts = {f"small/{i}": np.random.rand(6, 4).astype(np.float32) for i in range(12)}
    out = DLRM(4, top_mlp=_Same)(parts)
    vectors = list(parts.values())
    expected = [(vectors[i] * vectors[j]).sum(1) for i in range(12) for j in range(i)]
    np.testing.assert_allclose(out, np.stack(expected, axis=1), rtol=1e-5)


@pytest.mark.parametrize(
    "settings, parts, message",
    [
        (
            {"bottom_mlp": lambda: MLP([2])},
            {"shared": [[1.0]]},
            "DLRM needs two vectors to form a pair; raise DLRM.dense_vectors.*"
            "Received: dense_vectors=1, 0 embeddings",
        ),
        ({}, {"user": [[1, 2]]}, "two vectors to form a pair.* 1 embeddings"),
        ({}, {"dense": [[1.0]]}, r"DLRM.bottom_mlp must be given.*no.*\['dense'\]"),
        (
            {"bottom_mlp": lambda: MLP([2])},
            {"user": [[1, 2]]},
            r"DLRM.bottom_mlp must be given.*Received: a bottom_mlp, .*\['user'\]",
        ),
        (
            {"bottom_mlp": lambda: MLP([3])},
            {"dense": [[1.0]], "user": [[1, 2]]},
            r"must end in dense_vectors \* embedding_dim = 2 units. Received: 3",
        ),
        ({"embedding_dim": 0}, {}, "DLRM.embedding_dim must be at least 1"),
        ({"dense_vectors": 0}, {}, "DLRM.dense_vectors must be at least 1"),
    ],
    ids=[
        "backbone alone",
        "one id",
        "no bottom",
        "needless bottom",
        "wide bottom",
        "no width",
        "no vectors",
    ],
)
def test_bad_settings(settings, parts, message):
    with pytest.raises(ValueError, match=message):
        DLRM(**{"embedding_dim": 2, "top_mlp": lambda: MLP([1])} | settings)(
            _inputs(**parts)
        )


def test_a_flat_tensor_without_a_bottom():
    with pytest.raises(ValueError, match="one tensor, which is dense"):
        DLRM(2, MLP([1]))(np.zeros((1, 3), np.float32))


def test_usable_alone_saved_and_loaded(tmp_path):
    inputs = {
        "user": keras.Input((3,)),
        "dense": keras.Input((2,)),
        "author": keras.Input((4,)),
    }
    layer = DLRM(
        3,
        top_mlp=lambda: MLP([4, 2]),
        bottom_mlp=lambda: MLP([6]),
        dense_vectors=2,
        self_interaction=True,
    )
    model = keras.Model(inputs, layer(inputs))
    x = {
        name: np.random.rand(8, one.shape[1]).astype(np.float32)
        for name, one in inputs.items()
    }
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(model(x), loaded(x))


def test_static_shapes_compile_with_xla():
    layer = DLRM(4, top_mlp=lambda: MLP([2]), bottom_mlp=lambda: MLP([4]))
    inputs = _inputs(dense=np.ones((3, 2)), a=np.ones((3, 4)), b=np.ones((3, 5)))
    expected = layer(inputs)
    np.testing.assert_allclose(
        tf.function(layer, jit_compile=True)(inputs), expected, rtol=1e-5
    )


def test_the_last_weights_are_those_of_the_top():
    layer = DLRM(2, top_mlp=lambda: MLP([3]), bottom_mlp=lambda: MLP([2]))
    layer(_inputs(dense=[[1, 2]], user=[[3, 4, 5]], author=[[5, 6]]))
    (projection,) = layer.projections.values()
    expected = [
        *projection.weights,
        *layer.bottom_mlp.weights,
        *layer.top_mlp.weights,
    ]
    assert [w.ref() for w in layer.weights] == [w.ref() for w in expected]
