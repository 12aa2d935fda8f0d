"""The multi-layer perceptron of towers and backbones."""

from collections.abc import Mapping, Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.dropout import Dropout
from recap_tf.model.normalization import BatchNorm


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class MLP(keras.layers.Layer):
    """Dense layers: (dense, batch norm, ReLU, dropout) each, a bare dense last.

    Kernels start Glorot uniform, biases 0. Call: (batch, F) -> (batch,
    layer_sizes[-1]); with `return_shared_layer` also the value after the second
    module: the first batch norm's output *before* its ReLU, or without batch norm
    the first ReLU's. That is what the released ranker hands out under this name;
    nothing in it reads the value.

    Args:
        layer_sizes: units of each dense layer, at least 1.
        batch_norm: settings of a `BatchNorm` after every dense layer but the last;
            none leaves it out.
        dropout: share of units dropped in training after every ReLU, in [0, 1).
        final_layer_activation: apply a ReLU to the last layer too.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mlp import MLP
    >>> mlp = MLP([16, 1], batch_norm={"momentum": 0.9}, dropout=0.1)
    >>> mlp(tf.ones([3, 5])).shape
    TensorShape([3, 1])
    """

    def __init__(
        self,
        layer_sizes: Sequence[int],
        batch_norm: Mapping[str, float | bool] | None = None,
        dropout: float = 0.0,
        final_layer_activation: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not layer_sizes or min(layer_sizes) < 1:
            raise ValueError(
                "MLP.layer_sizes must be one or more positive numbers. Received: "
                f"{layer_sizes}"
            )
        self.layer_sizes = list(layer_sizes)
        self.batch_norm_settings = None if batch_norm is None else dict(batch_norm)
        self.dropout = dropout
        self.final_layer_activation = final_layer_activation
        hidden = self.layer_sizes[:-1]
        self.dense_layers = [keras.layers.Dense(size) for size in self.layer_sizes]
        self.batch_norms = []
        if batch_norm is not None:
            self.batch_norms = [BatchNorm(**batch_norm) for _ in hidden]
        self.dropouts = [Dropout(dropout) for _ in hidden] if dropout else []

    def call(self, inputs, training=None, return_shared_layer=False):
        x, shared_layer = inputs, None
        last = len(self.dense_layers) - 1
        for i, dense in enumerate(self.dense_layers):
            x = dense(x)
            if i < last and self.batch_norms:
                x = self.batch_norms[i](x, training=training)
                shared_layer = x if shared_layer is None else shared_layer
            if i < last or self.final_layer_activation:
                x = tf.nn.relu(x)
            shared_layer = x if shared_layer is None else shared_layer
            if i < last and self.dropouts:
                x = self.dropouts[i](x, training=training)
        return (x, shared_layer) if return_shared_layer else x

    def get_config(self):
        return super().get_config() | {
            "layer_sizes": self.layer_sizes,
            "batch_norm": self.batch_norm_settings,
            "dropout": self.dropout,
            "final_layer_activation": self.final_layer_activation,
        }
