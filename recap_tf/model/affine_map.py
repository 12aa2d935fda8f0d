"""A learned scale and bias of one number."""

import tf_keras as keras


@keras.saving.register_keras_serializable(package="recap_tf")
class AffineMap(keras.layers.Layer):
    """A learned affine map of a task's logit: scale * x + bias.

    Args:
        scale, bias: what the two start from.

    >>> import tensorflow as tf
    >>> from recap_tf.model.affine_map import AffineMap
    >>> AffineMap(scale=2.0, bias=-1.0)(tf.constant([[3.0]])).numpy().tolist()
    [[5.0]]
    """

    def __init__(self, scale: float = 1.0, bias: float = 0.0, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))
        self.initial = {"scale": scale, "bias": bias}

    def build(self, shape):
        constant = keras.initializers.Constant
        self.scale = self.add_weight(
            "scale", (), initializer=constant(self.initial["scale"])
        )
        self.bias = self.add_weight(
            "bias", (), initializer=constant(self.initial["bias"])
        )
        super().build(shape)

    def call(self, inputs):
        return self.scale * inputs + self.bias

    def get_config(self):
        return super().get_config() | self.initial
