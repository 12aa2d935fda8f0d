"""The parts of a network's input by name, for the layers that care which is which."""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

DENSE = "dense"
"""Name of the part that is no embedding: the preprocessed columns."""
SHARED = "shared"
"""Name of the part that a backbone made; no embedding either."""


class Fields:
    """Named parts of one input, each (batch, width), in the order they are joined in.

    Args:
        parts: name -> part. All but `DENSE` and `SHARED` are embeddings of one thing
            each: a user's vector, one id column's.

    >>> import tensorflow as tf
    >>> from recap_tf.model.fields import Fields
    >>> fields = Fields({"dense": tf.ones([3, 5]), "author": tf.ones([3, 8])})
    >>> fields.flat.shape, list(fields.embeddings)
    (TensorShape([3, 13]), ['author'])
    """

    def __init__(self, parts: Mapping[str, tf.Tensor]):
        self.parts = dict(parts)
        self._flat: tf.Tensor | None = None

    @property
    def flat(self) -> tf.Tensor:
        """All parts side by side, (batch, sum of widths)."""
        if self._flat is None:
            parts = list(self.parts.values())
            self._flat = parts[0] if len(parts) == 1 else tf.concat(parts, axis=-1)
        return self._flat

    @property
    def dense(self) -> "Fields":
        """The parts that are no embeddings."""
        return Fields({n: p for n, p in self.parts.items() if n in (DENSE, SHARED)})

    @property
    def embeddings(self) -> dict[str, tf.Tensor]:
        """The parts that are embeddings."""
        return {n: p for n, p in self.parts.items() if n not in (DENSE, SHARED)}

    def with_shared(self, shared: tf.Tensor) -> "Fields":
        """These parts followed by a backbone's output, in its dtype."""
        parts = {name: tf.cast(part, shared.dtype) for name, part in self.parts.items()}
        return Fields(parts | {SHARED: shared})


def as_fields(inputs: Mapping[str, tf.Tensor] | tf.Tensor) -> Fields:
    """The parts that a layer was called with; one flat tensor is dense."""
    return Fields(inputs if isinstance(inputs, Mapping) else {DENSE: inputs})


def takes_fields(layer: keras.layers.Layer) -> bool:
    """Whether `layer` wants its input as name -> part rather than as one tensor."""
    return bool(getattr(layer, "takes_fields", False))


def apply(layer: keras.layers.Layer, fields: Fields, training: bool | None = None):
    """Calls `layer` with the parts by name if it asks for that, else with all as one.

    A layer asks by an attribute `takes_fields` that is True. It is then called with
    a dict, in the order of `fields`.
    """
    inputs = fields.parts if takes_fields(layer) else fields.flat
    return layer(inputs, training=training)
