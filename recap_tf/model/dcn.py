"""DCN-V2: products of features of a chosen degree, beside or before an MLP."""

import gin
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.model.layers import (
    LayerOrFactory,
    layer_config,
    layer_from_config,
    make_layer,
)


class _Cross(tfrs.layers.dcn.Cross):
    """A cross layer whose matrix product computes in the layer's compute type."""

    @property
    def dtype(self):
        # The parent hands this on to its dense layers. The weights' type alone would
        # make them multiply in float32 under mixed_bfloat16.
        return self.dtype_policy


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class DCN(keras.layers.Layer):
    """Cross layers, alone, beside an MLP or before one, then an optional MLP.

        x_{l+1}  = x_0 * (W_l x_l + b_l) + x_l             (eq. 1)
                 | x_0 * (U_l (V_l^T x_l) + b_l) + x_l     with projection_dim (eq. 2)
        alone:    output = output_mlp(x_L)
        stacked:  output = output_mlp(mlp(x_L))
        parallel: output = output_mlp(concat(x_L, mlp(x_0)))

    x_0 is the input, L = poly_degree; x_L holds products of up to L + 1 features
    (arXiv:2008.13535, section 3). Call: (batch, F) -> (batch, O), O the width of
    the last of these parts that is there.

    Args:
        poly_degree: how many cross layers, at least 1.
        projection_dim: rank of every W, for wide inputs; below F / 2 it saves work.
            None for full matrices.
        mlp: the deep network, or a factory; none for crosses alone.
        use_parallel: the MLP sees the input, beside the crosses; else it sees what
            the crosses made of it.
        output_mlp: the last network, or a factory; none for no such network.
        diag_scale: added to the diagonal of every W, at least 0; steadies low-rank
            crosses.
        initializer: how the cross layers' kernels start: a Keras initializer's name.

    >>> import tensorflow as tf
    >>> from recap_tf.model.dcn import DCN
    >>> from recap_tf.model.mlp import MLP
    >>> dcn = DCN(poly_degree=2, mlp=MLP([16, 8]), use_parallel=True)
    >>> dcn(tf.ones([3, 4])).shape  # The crosses' 4 columns beside the MLP's 8.
    TensorShape([3, 12])
    """

    def __init__(
        self,
        poly_degree: int = 3,
        projection_dim: int | None = None,
        mlp: LayerOrFactory | None = None,
        use_parallel: bool = False,
        output_mlp: LayerOrFactory | None = None,
        diag_scale: float = 0.0,
        initializer: str = "glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_range("DCN.poly_degree", poly_degree, at_least=1)
        check_range(
            "DCN.projection_dim", projection_dim, at_least=1, none="full matrices"
        )
        check_range("DCN.diag_scale", diag_scale, at_least=0)
        if use_parallel and mlp is None:
            raise ValueError(
                "DCN.use_parallel puts DCN.mlp beside the crosses, so it needs one. "
                "Received: use_parallel=True, mlp=None"
            )
        self.settings = {
            "poly_degree": poly_degree,
            "projection_dim": projection_dim,
            "use_parallel": use_parallel,
            "diag_scale": diag_scale,
            "initializer": initializer,
        }
        self.use_parallel = use_parallel
        self.crosses = [
            _Cross(
                projection_dim=projection_dim,
                diag_scale=diag_scale,
                kernel_initializer=initializer,
            )
            for _ in range(poly_degree)
        ]
        self.mlp = make_layer(mlp)
        self.output_mlp = make_layer(output_mlp)

    def call(self, inputs, training=None):
        x = inputs
        for cross in self.crosses:
            x = cross(inputs, x)
        if self.mlp is not None:
            deep = self.mlp(inputs if self.use_parallel else x, training=training)
            x = tf.concat([x, deep], axis=-1) if self.use_parallel else deep
        if self.output_mlp is not None:
            x = self.output_mlp(x, training=training)
        return x

    def get_config(self):
        return super().get_config() | {
            **self.settings,
            "mlp": layer_config(self.mlp),
            "output_mlp": layer_config(self.output_mlp),
        }

    @classmethod
    def from_config(cls, config):
        inner = {
            name: layer_from_config(config.pop(name)) for name in ("mlp", "output_mlp")
        }
        return cls(**inner, **config)
