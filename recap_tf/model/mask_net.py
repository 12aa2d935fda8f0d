"""MaskNet: feature-wise masks computed from the instance (arXiv:2102.07619)."""

from collections.abc import Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.layers import (
    LayerOrFactory,
    layer_config,
    layer_from_config,
    make_layer,
)


def _layer_norm() -> keras.layers.LayerNormalization:
    # A model whose weights are stored in bfloat16 still takes the mean and variance of
    # a row in float32, as one that only computes in bfloat16 does.
    stored = keras.mixed_precision.global_policy().name == "bfloat16"
    return keras.layers.LayerNormalization(
        epsilon=1e-5, dtype="mixed_bfloat16" if stored else None
    )


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class MaskBlock(keras.layers.Layer):
    """Masks its input by the instance, then projects it.

        mask   = expand(relu(aggregate(mask_input)))
        output = layer_norm(hidden(net * mask))

    (eq. 3 to 6; the released ranker has no ReLU after the layer norm). With
    `input_layer_norm`, `net` is normalized first; `mask_input` never is. Call:
    [net (batch, F), mask_input (batch, M)] -> (batch, output_size).

    Args:
        output_size: units of `hidden`.
        aggregation_size: units of `aggregate`; or
        reduction_factor: those units as a multiple of M, rounded down. Exactly one of
            the two.
        input_layer_norm: normalize `net` first.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mask_net import MaskBlock
    >>> block = MaskBlock(output_size=8, reduction_factor=2.0)
    >>> block([tf.ones([3, 5]), tf.ones([3, 4])]).shape
    TensorShape([3, 8])
    """

    def __init__(
        self,
        output_size: int,
        aggregation_size: int | None = None,
        reduction_factor: float | None = None,
        input_layer_norm: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if (aggregation_size is None) == (reduction_factor is None):
            raise ValueError(
                "MaskBlock needs exactly one of aggregation_size and "
                f"reduction_factor. Received: aggregation_size={aggregation_size}, "
                f"reduction_factor={reduction_factor}"
            )
        self.output_size = output_size
        self.aggregation_size = aggregation_size
        self.reduction_factor = reduction_factor
        self.input_layer_norm = _layer_norm() if input_layer_norm else None
        self.hidden = keras.layers.Dense(output_size)
        self.output_layer_norm = _layer_norm()

    def build(self, shapes):
        net_width, mask_width = shapes[0][-1], shapes[1][-1]
        size = self.aggregation_size or int(mask_width * self.reduction_factor)
        if size < 1:
            raise ValueError(
                f"MaskBlock.reduction_factor = {self.reduction_factor} leaves no unit "
                f"of a mask input {mask_width} wide."
            )
        self.aggregate = keras.layers.Dense(size, activation="relu")
        self.expand = keras.layers.Dense(net_width)
        super().build(shapes)

    def call(self, inputs):
        net, mask_input = inputs
        if self.input_layer_norm is not None:
            net = self.input_layer_norm(net)
        mask = self.expand(self.aggregate(mask_input))
        # Without the cast a float32 input would lift the product out of bfloat16.
        return self.output_layer_norm(self.hidden(tf.cast(net, mask.dtype) * mask))

    def get_config(self):
        return super().get_config() | {
            "output_size": self.output_size,
            "aggregation_size": self.aggregation_size,
            "reduction_factor": self.reduction_factor,
            "input_layer_norm": self.input_layer_norm is not None,
        }


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class MaskNet(keras.layers.Layer):
    """Mask blocks side by side or one after the other, then an optional MLP.

        parallel: output = mlp(concat(block_1([x, x]), ..., block_n([x, x])))
        stacked:  h_i = block_i([h_{i-1}, x]), h_0 = x;  output = mlp(h_n)

    (section 3.4 of the paper). Call: (batch, F) -> (batch, O), O the MLP's last
    layer, or without one the blocks' summed or last width.

    Args:
        blocks: the `MaskBlock`s, or factories of them.
        mlp: the `MLP` after them, or a factory; none for no MLP.
        parallel: side by side; else stacked.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mask_net import MaskBlock, MaskNet
    >>> blocks = [MaskBlock(output_size=8, aggregation_size=16) for _ in range(3)]
    >>> MaskNet(blocks)(tf.ones([2, 5])).shape  # Three blocks side by side.
    TensorShape([2, 24])
    """

    def __init__(
        self,
        blocks: Sequence[LayerOrFactory],
        mlp: LayerOrFactory | None = None,
        parallel: bool = True,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if not blocks:
            raise ValueError("MaskNet.blocks must name at least one block.")
        self.blocks = [make_layer(block) for block in blocks]
        self.mlp = make_layer(mlp)
        self.parallel = parallel

    def call(self, inputs, training=None, return_shared_layer=False):
        if self.parallel:
            shared_layer = tf.concat(
                [block([inputs, inputs]) for block in self.blocks], axis=-1
            )
        else:
            shared_layer = inputs
            for block in self.blocks:
                shared_layer = block([shared_layer, inputs])
        output = shared_layer
        if self.mlp is not None:
            output = self.mlp(output, training=training)
        return (output, shared_layer) if return_shared_layer else output

    def get_config(self):
        return super().get_config() | {
            "blocks": [layer_config(block) for block in self.blocks],
            "mlp": layer_config(self.mlp),
            "parallel": self.parallel,
        }

    @classmethod
    def from_config(cls, config):
        blocks = [layer_from_config(block) for block in config.pop("blocks")]
        return cls(blocks=blocks, mlp=layer_from_config(config.pop("mlp")), **config)
