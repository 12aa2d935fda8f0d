"""Layers that hold other layers: given as objects or as factories, saved with them."""

from collections.abc import Callable

import tf_keras as keras

# A config hands over factories, so that variables are made inside a strategy's scope;
# Python code more naturally hands over the layer itself.
LayerOrFactory = keras.layers.Layer | Callable[[], keras.layers.Layer]


def make_layer(layer: LayerOrFactory | None) -> keras.layers.Layer | None:
    """The layer itself, or what the factory makes."""
    if layer is None or isinstance(layer, keras.layers.Layer):
        return layer
    return layer()


def layer_config(layer: keras.layers.Layer | None) -> dict | None:
    """The config that `get_config` stores of an inner layer."""
    return None if layer is None else keras.saving.serialize_keras_object(layer)


def layer_from_config(config: dict | None) -> keras.layers.Layer | None:
    """Makes the inner layer that `layer_config` stored."""
    return None if config is None else keras.saving.deserialize_keras_object(config)
