"""From the ids that a feature holds to rows of a table.

A table gets its rows from one `RowFinder`:

    row_finders      CheckedRows          ids are rows
    id_hashing       HashedRows           row = hash(id) mod rows
    vocabulary       VocabularyRows       a file says which row an id has
    open_vocabulary  OpenVocabularyRows   frequent ids get rows while training goes on
"""

from collections.abc import Mapping

import tensorflow as tf
import tf_keras as keras

Ids = Mapping[str, tf.Tensor]
"""Feature -> its ids, (n,) int64 or strings. The features share one table."""


class RowFinder(keras.layers.Layer):
    """Finds the rows of ids. Call: feature -> (n,) ids -> feature -> (n,) int64 rows.

    Args:
        table: name of the table, for messages.
        rows: how many rows ids have; there may be one more, see `shared_rows`.
    """

    shared_rows = 0
    """How many rows, at the table's end, belong to no id of their own."""

    def __init__(self, table: str, rows: int, **kwargs):
        super().__init__(name=f"{table}_rows", **kwargs)
        self.table, self.rows = table, rows

    def get_config(self):
        config = super().get_config() | {"table": self.table, "rows": self.rows}
        del config["name"]
        return config


class CheckedRows(RowFinder):
    """Takes ids for rows: integers from 0 to rows - 1, others are an error.

    >>> import tensorflow as tf
    >>> from recap_tf.core.embeddings.row_finders import CheckedRows
    >>> CheckedRows("user", rows=5)({"id": tf.constant([4, 0])})["id"].numpy().tolist()
    [4, 0]
    """

    def call(self, ids: Ids):
        return {name: self._checked(name, values) for name, values in ids.items()}

    def _checked(self, feature: str, ids: tf.Tensor) -> tf.Tensor:
        if ids.dtype == tf.string:
            raise ValueError(
                f"Feature {feature!r} holds strings, but table {self.table!r} has no "
                "vocabulary. Set TableSpec.hashed, vocabulary or open_vocabulary."
            )
        inside = (ids >= 0) & (ids < self.rows)
        check = tf.debugging.Assert(
            tf.reduce_all(inside),
            [
                # Assert would put a backslash before every quotation mark.
                f"Embedding table {self.table} has rows 0 to {self.rows - 1}; "
                f"ids of feature {feature} outside it:",
                tf.boolean_mask(ids, ~inside),
            ],
            summarize=5,
        )
        with tf.control_dependencies([check] if check is not None else []):
            return tf.identity(ids)
