"""Position debias: the place a post was shown at, neutral when serving."""

from collections.abc import Iterable, Mapping

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.model.dropout import Dropout
from recap_tf.model.small_embeddings import EmbeddingTable

_MEMORY = 0.999  # of each step's counts of positions, at the next


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PositionDebias(keras.layers.Layer):
    """Embeds the position that a post was shown at; neutral where it is not known.

        vector(k) = table[min(k, max_position)]
        unknown   = sum_k share_k * vector(k)
        output    = unknown with probability drop_probability, else vector(position)
                    in training; unknown at any other time

    share_k is how much of the training traffic was shown at k, lately. Posts in good
    places get more clicks for it, and a model that is told the place need not explain
    them by the post. Scored later at `unknown`, all posts stand at one and the same
    average place, whatever position is sent.

    What is dropped teaches the model the clicks as they were, place and all: it keeps
    the served probabilities close to the traffic's, and brings part of the bias back.
    0 removes most bias.

    Call: (batch,) or (batch, columns) integers -> (batch, embedding_dim) float32.

    Position as an input that is missing when serving: Zhao et al., "Recommending what
    video to watch next", RecSys 2019, section 4.3. There, `unknown` is an input of its
    own; the average needs no examples to learn from.

    Args:
        position_feature_index: the column of the feature that holds positions, counted
            from 0, the best place. None of them negative.
        feature: the feature that the model hands over; also an extra or an extracted
            one.
        max_position: larger positions count as this one; at least 1.
        embedding_dim: width of the output, at least 1.
        drop_probability: share of training examples whose position is hidden, in
            [0, 1).
        initializer: how the rows start: a Keras initializer's name.

    >>> import tensorflow as tf
    >>> from recap_tf.model.position_debias import PositionDebias
    >>> debias = PositionDebias(embedding_dim=8)
    >>> served = debias(tf.constant([[0], [5]]), training=False)
    >>> served.shape, bool(tf.reduce_all(served[0] == served[1]))  # Neutral.
    (TensorShape([2, 8]), True)
    """

    def __init__(
        self,
        position_feature_index: int = 0,
        feature: str = "discrete",
        max_position: int = 256,
        embedding_dim: int = 64,
        drop_probability: float = 0.5,
        initializer: str = "uniform",
        **kwargs,
    ):
        super().__init__(**({"dtype": "float32"} | kwargs))
        for name, value, least in (
            ("position_feature_index", position_feature_index, 0),
            ("max_position", max_position, 1),
            ("embedding_dim", embedding_dim, 1),
        ):
            check_range(f"PositionDebias.{name}", value, at_least=least)
        setting = "PositionDebias.drop_probability"
        check_range(setting, drop_probability, at_least=0, below=1)
        self.position_feature_index = position_feature_index
        self.feature = feature
        self.max_position = max_position
        self.embedding_dim = embedding_dim
        self.drop_probability = drop_probability
        self.initializer = initializer
        self.drop = Dropout(drop_probability, dtype="float32")

    def _check(self, inputs) -> None:
        if not inputs.dtype.is_integer:
            raise ValueError(
                "PositionDebias.feature must be a feature of integers. Received: "
                f"{self.feature!r}, {inputs.dtype.name}"
            )

    def build(self, shape):
        columns = shape[-1] if len(shape) == 2 else 1
        if self.position_feature_index >= columns:
            raise ValueError(
                "PositionDebias.position_feature_index must be below the "
                f"{columns} columns of `{self.feature}`. Received: "
                f"{self.position_feature_index}"
            )
        rows = self.max_position + 1
        self.table = self.add_weight(
            "table", (rows, self.embedding_dim), initializer=self.initializer
        )
        # One example at each place to begin with, lest there be nothing to average.
        self.seen = self.add_weight(
            "seen",
            (rows,),
            initializer="ones",
            trainable=False,
            synchronization=tf.VariableSynchronization.ON_READ,
            aggregation=tf.VariableAggregation.MEAN,
        )
        self.drop.build((None, 1))
        super().build(shape)

    def call(self, inputs, training=None):
        self._check(inputs)
        shares = self.seen / tf.reduce_sum(self.seen)
        unknown = tf.linalg.matvec(self.table, shares, transpose_a=True)[tf.newaxis]
        if not training:
            return tf.repeat(unknown, tf.shape(inputs)[0], axis=0)
        rows = self._rows(inputs)
        counts = tf.math.unsorted_segment_sum(
            tf.ones_like(rows, tf.float32), rows, self.max_position + 1
        )
        self.seen.assign(_MEMORY * self.seen + counts)
        known = self.drop(tf.ones_like(rows, tf.float32)[:, tf.newaxis], training=True)
        return tf.where(known > 0, tf.gather(self.table, rows), unknown)

    def _rows(self, inputs) -> tf.Tensor:
        """The table's row of each example, (batch,)."""
        positions = inputs
        if len(inputs.shape) == 2:
            positions = inputs[:, self.position_feature_index]
        check = tf.debugging.Assert(
            tf.reduce_all(positions >= 0),
            [
                "PositionDebias: positions are counted from 0; negative ones in column "
                f"{self.position_feature_index} of `{self.feature}`:",
                tf.boolean_mask(positions, positions < 0),
            ],
            summarize=5,
        )
        with tf.control_dependencies([check] if check is not None else []):
            return tf.cast(tf.minimum(positions, self.max_position), tf.int32)

    def get_config(self):
        return super().get_config() | {
            "position_feature_index": self.position_feature_index,
            "feature": self.feature,
            "max_position": self.max_position,
            "embedding_dim": self.embedding_dim,
            "drop_probability": self.drop_probability,
            "initializer": self.initializer,
        }


def check_positions_are_hidden(
    feature: str,
    column: int,
    large_tables: Mapping[str, TableSpec],
    small_tables: Iterable[EmbeddingTable],
) -> None:
    """Raises ValueError if a table reads `column` of `feature`: the positions.

    It would still see the position when that counts as unknown. Large tables read all
    columns of a feature, small ones a column of `discrete`.
    """
    for name, table in large_tables.items():
        if feature in table.features:
            raise ValueError(
                f"LargeEmbeddings' table {name!r} must not read feature {feature!r}: "
                "it holds the position that PositionDebias takes, and that is unknown "
                "when serving."
            )
    if feature != "discrete":
        return
    for table in small_tables:
        if table.column == column:
            raise ValueError(
                f"SmallEmbeddings' table {table.name!r} must not read column {column} "
                "of `discrete`: it is the position that PositionDebias takes, and "
                "unknown when serving."
            )
