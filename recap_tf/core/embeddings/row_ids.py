"""From the ids that a feature holds to rows of a table: checked, or hashed.

A table gets its rows from one `RowFinder`; the others are
`recap_tf.core.embeddings.vocabulary.VocabularyRows` and
`recap_tf.core.embeddings.open_vocabulary.OpenVocabularyRows`.
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
        rows: that ids have; there may be one more, see `shared_rows`.
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
    """The ids are the rows: integers from 0 to rows - 1, others an error."""

    def call(self, ids: Ids):
        return {feature: self._checked(feature, one) for feature, one in ids.items()}

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


class HashedRows(RowFinder):
    """row = hash(id) mod rows: any integer or string has a row; some share one."""

    def call(self, ids: Ids):
        return {
            feature: remainder(fingerprints(one), self.rows)
            for feature, one in ids.items()
        }


def fingerprints(ids: tf.Tensor) -> tf.Tensor:
    """(n,) int64 or strings -> (n,) uint64, evenly spread.

    Integers never collide: the mix is a bijection. Of N strings, two have the same
    fingerprint with probability N^2 / 2^64.
    """
    if ids.dtype == tf.string:
        ids = tf.strings.to_hash_bucket_fast(ids, 2**63 - 1)
    return mix(tf.bitcast(tf.cast(ids, tf.int64), tf.uint64))


def mix(bits: tf.Tensor) -> tf.Tensor:
    """The finalizer of SplitMix64 (Steele et al. 2014, figure 16): a bijection of
    uint64 whose every output bit depends on every input bit."""
    x = bits + _uint64(0x9E3779B97F4A7C15)
    x = _xor_shifted(x, 30) * _uint64(0xBF58476D1CE4E5B9)
    x = _xor_shifted(x, 27) * _uint64(0x94D049BB133111EB)
    return _xor_shifted(x, 31)


def remainder(bits: tf.Tensor, divisor: int) -> tf.Tensor:
    """uint64 -> bits mod divisor, int64."""
    return tf.cast(tf.math.floormod(bits, _uint64(divisor)), tf.int64)


def _xor_shifted(x: tf.Tensor, by: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(by)))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
