"""DLRM: dot products between all embeddings and the dense columns' own vectors."""

from collections.abc import Mapping

import gin
import numpy as np
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.model.fields import Fields, as_fields
from recap_tf.model.layers import (
    LayerOrFactory,
    layer_config,
    layer_from_config,
    make_layer,
)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class DLRM(keras.layers.Layer):
    """Dot products of every pair of vectors, beside the dense one, then an MLP.

        d           = bottom_mlp(concat(dense parts))       (batch, k * embedding_dim)
        v_1 .. v_k  = d, cut into k = dense_vectors
        v_{k+i}     = part_i, or P_i part_i if it is not embedding_dim wide
        output      = top_mlp(concat(d, [v_i . v_j for j < i]))

    (arXiv:1906.00091, section 2.1). Dense parts are the preprocessed columns and what
    a backbone made; every other part is the embedding of one thing. Without dense
    parts there is no d. With k > 1, dense parts alone have pairs too: as a tower above
    a shared backbone, or on one flat tensor, which counts as dense.

    Call: name -> (batch, width), or (batch, F) -> (batch, O), O the width of `top_mlp`.

    Args:
        embedding_dim: width of the vectors, at least 1.
        top_mlp: the last network, or a factory.
        bottom_mlp: makes d, or a factory of it; given if and only if there are dense
            parts. It must end in dense_vectors * embedding_dim units.
        dense_vectors: how many vectors d is cut into, at least 1; the paper has 1.
        self_interaction: also each vector's dot product with itself.

    Raises:
        ValueError: when built on an input from which no pair can be formed.

    >>> import tensorflow as tf
    >>> from recap_tf.model.dlrm import DLRM
    >>> from recap_tf.model.mlp import MLP
    >>> dlrm = DLRM(embedding_dim=8, bottom_mlp=MLP([8]), top_mlp=MLP([16, 1]))
    >>> dlrm({"dense": tf.ones([3, 5]), "author": tf.ones([3, 8])}).shape
    TensorShape([3, 1])
    """

    takes_fields = True

    def __init__(
        self,
        embedding_dim: int,
        top_mlp: LayerOrFactory,
        bottom_mlp: LayerOrFactory | None = None,
        dense_vectors: int = 1,
        self_interaction: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_range("DLRM.embedding_dim", embedding_dim, at_least=1)
        check_range("DLRM.dense_vectors", dense_vectors, at_least=1)
        self.embedding_dim = embedding_dim
        self.dense_vectors = dense_vectors
        self.self_interaction = self_interaction
        # Before the others: weights are listed in this order, and GradNorm takes the
        # last ones for the layer nearest to the towers.
        self.projections = {}
        self.bottom_mlp = make_layer(bottom_mlp)
        self.top_mlp = make_layer(top_mlp)
        # Without `skip_gather` the layer's output has no static shape, which XLA needs.
        self.dots = tfrs.layers.feature_interaction.DotInteraction(
            self_interaction, skip_gather=True
        )

    def build(self, shapes):
        widths = shapes if isinstance(shapes, Mapping) else {}
        embeddings = Fields(widths).embeddings
        has_dense = not widths or len(embeddings) < len(widths)
        if has_dense != (self.bottom_mlp is not None):
            raise ValueError(
                "DLRM.bottom_mlp must be given if and only if the input has a dense "
                f"part. Received: {'no' if self.bottom_mlp is None else 'a'} "
                f"bottom_mlp, parts {list(widths) or 'one tensor, which is dense'}"
            )
        vectors = len(embeddings) + self.dense_vectors * has_dense
        if vectors < 2 and not self.self_interaction:
            raise ValueError(
                "DLRM needs two vectors to form a pair; raise DLRM.dense_vectors or "
                "set DLRM.self_interaction. Received: "
                f"dense_vectors={self.dense_vectors}, {len(embeddings)} embeddings"
            )
        pairs = np.tril(np.ones((vectors, vectors)), 0 if self.self_interaction else -1)
        self.pairs = np.flatnonzero(pairs)
        for name, shape in embeddings.items():
            if shape[-1] != self.embedding_dim:
                self.projections[name] = keras.layers.Dense(
                    self.embedding_dim, use_bias=False
                )
        super().build(shapes)

    def call(self, inputs, training=None):
        fields = as_fields(inputs)
        vectors, seen = [], []
        if self.bottom_mlp is not None:
            dense = self.bottom_mlp(fields.dense.flat, training=training)
            self._check_width(dense.shape[-1])
            seen.append(dense)
            vectors += tf.split(dense, self.dense_vectors, axis=-1)
        for name, part in fields.embeddings.items():
            project = self.projections.get(name)
            vectors.append(part if project is None else project(part))
        seen.append(tf.gather(self.dots(vectors), self.pairs, axis=1))
        return self.top_mlp(tf.concat(seen, axis=-1), training=training)

    def _check_width(self, width: int) -> None:
        expected = self.dense_vectors * self.embedding_dim
        if width != expected:
            raise ValueError(
                "DLRM.bottom_mlp must end in dense_vectors * embedding_dim = "
                f"{expected} units. Received: {width}"
            )

    def get_config(self):
        return super().get_config() | {
            "embedding_dim": self.embedding_dim,
            "top_mlp": layer_config(self.top_mlp),
            "bottom_mlp": layer_config(self.bottom_mlp),
            "dense_vectors": self.dense_vectors,
            "self_interaction": self.self_interaction,
        }

    @classmethod
    def from_config(cls, config):
        inner = {
            name: layer_from_config(config.pop(name))
            for name in ("top_mlp", "bottom_mlp")
        }
        return cls(**inner, **config)
