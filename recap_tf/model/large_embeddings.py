"""Large embedding tables as a part of the ranker."""

from collections.abc import Mapping, Sequence

import gin
import tf_keras as keras

from recap_tf.core.checks import check_choice
from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.model.small_embeddings import STORED_EMBEDDINGS


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class LargeEmbeddings(EmbeddingTables):
    """Looks sparse features up in large tables, for a ranking model.

    Call: all features of the model -> name of a part of its input -> (batch, dim),
    "large/<feature>" or what `replaces` says.

    Args:
        tables: what each holds; see `TableSpec`.
        replaces: feature -> the stored vector that its looked-up one stands in for:
            "user_embedding", "user_eng_embedding" or "author_embedding". It takes that
            one's place and layer norm, and the features must not hold it too.
        replica_batch_size: examples per batch and replica; TPUs need to know.

    >>> import tensorflow as tf
    >>> from recap_tf.core.embeddings.table_spec import TableSpec
    >>> from recap_tf.model.large_embeddings import LargeEmbeddings
    >>> post = TableSpec(name="post", rows=100, dim=8, features=["id"], hashed=True)
    >>> vectors = LargeEmbeddings([post])({"id": tf.constant([[7], [7], [9]])})
    >>> {name: vector.shape for name, vector in vectors.items()}
    {'large/id': TensorShape([3, 8])}
    """

    def __init__(
        self,
        tables: Sequence[TableSpec],
        replaces: Mapping[str, str] = {},
        replica_batch_size: int | None = None,
        **kwargs,
    ):
        super().__init__(tables, replica_batch_size, **kwargs)
        served = [feature for spec in tables for feature in spec.features]
        stored = sorted(set(served) & set(STORED_EMBEDDINGS))
        if stored:
            raise ValueError(
                f"{stored[0]!r} is the name of a stored vector, so no large table can "
                "look ids up in it. Rename the feature in Records.features and list "
                "it in LargeEmbeddings.replaces."
            )
        if len(set(replaces.values())) < len(replaces):
            raise ValueError(
                "LargeEmbeddings.replaces must give each stored vector one feature. "
                f"Received: {dict(replaces)}"
            )
        for feature, stored in replaces.items():
            if feature not in served:
                raise ValueError(
                    f"LargeEmbeddings.replaces names feature {feature!r}, which no "
                    f"table serves. Features of the tables: {served}."
                )
            setting = f"LargeEmbeddings.replaces[{feature!r}]"
            check_choice(setting, stored, STORED_EMBEDDINGS)
        self.replaces = dict(replaces)

    def call(self, inputs, training=None):
        for feature, stored in self.replaces.items():
            if stored in inputs:
                raise ValueError(
                    f"{stored!r} comes both as a stored vector and as id {feature!r} "
                    "of a large table. Leave one out: of Records.features, or of "
                    "LargeEmbeddings.replaces."
                )
        vectors = super().call(inputs, training=training)
        return {
            self.replaces.get(feature, f"large/{feature}"): vector
            for feature, vector in vectors.items()
        }

    def get_config(self):
        return super().get_config() | {"replaces": self.replaces}
