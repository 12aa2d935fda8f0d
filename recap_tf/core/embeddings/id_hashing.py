"""Hashes of ids: fingerprints of 64 bits, and the rows of a table they stand for."""

import tensorflow as tf

from recap_tf.core.embeddings.row_finders import Ids, RowFinder


class HashedRows(RowFinder):
    """Hashes ids: row = hash(id) mod rows.

    Any integer or string has a row; some share one.

    >>> import tensorflow as tf
    >>> from recap_tf.core.embeddings.id_hashing import HashedRows
    >>> ids = tf.constant(["ann", "bob", "ann"])
    >>> HashedRows("user", rows=100)({"id": ids})["id"].numpy().tolist()
    [97, 54, 97]
    """

    def call(self, ids: Ids):
        return {
            feature: remainder(fingerprints(values), self.rows)
            for feature, values in ids.items()
        }


def fingerprints(ids: tf.Tensor) -> tf.Tensor:
    """Fingerprints of ids, evenly spread: (n,) int64 or strings -> (n,) uint64.

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
    """The remainder, bits mod divisor: uint64 -> int64."""
    return tf.cast(tf.math.floormod(bits, _uint64(divisor)), tf.int64)


def _xor_shifted(x: tf.Tensor, by: int) -> tf.Tensor:
    return tf.bitwise.bitwise_xor(x, tf.bitwise.right_shift(x, _uint64(by)))


def _uint64(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint64)
