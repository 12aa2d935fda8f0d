"""Arithmetic on gradients: dense ones, and those of a few rows of a large table.

A gradient is a tensor, `tf.IndexedSlices` (rows of a table, one more than once if it
was looked up more than once), or None where the loss does not depend on a weight.
Rows stay rows: nothing here makes a tensor of a table's size out of rows alone.
"""

from collections.abc import Sequence

import tensorflow as tf

Gradient = tf.Tensor | tf.IndexedSlices | None


def add(first: Gradient, second: Gradient) -> Gradient:
    """The sum; rows of the same table are put one after the other."""
    if first is None or second is None:
        return second if first is None else first
    if isinstance(first, tf.IndexedSlices) and isinstance(second, tf.IndexedSlices):
        return tf.IndexedSlices(
            tf.concat([first.values, second.values], axis=0),
            tf.concat(
                [first.indices, tf.cast(second.indices, first.indices.dtype)], axis=0
            ),
            first.dense_shape,
        )
    return tf.convert_to_tensor(first) + tf.convert_to_tensor(second)


def scale(gradient: Gradient, factor: tf.Tensor) -> Gradient:
    """The product factor * gradient, of the same kind as the gradient."""
    if gradient is None:
        return None
    if isinstance(gradient, tf.IndexedSlices):
        values = gradient.values * tf.cast(factor, gradient.values.dtype)
        return tf.IndexedSlices(values, gradient.indices, gradient.dense_shape)
    return gradient * tf.cast(factor, gradient.dtype)


def products(gradients: Sequence[Gradient]) -> tf.Tensor:
    """The dot products of gradients of one weight with each other.

    Args:
        gradients: N of them, at least one not None.

    Returns:
        (N, N) float32; 0 beside None.
    """
    rows = _as_rows(gradients)
    return tf.matmul(rows, rows, transpose_b=True)


def squared_norm(gradient: Gradient) -> tf.Tensor:
    """The sum of squares of a gradient, after rows that appear twice were added."""
    if gradient is None:
        return tf.zeros([])
    if isinstance(gradient, tf.IndexedSlices):
        gradient = _as_rows([gradient])
    return tf.reduce_sum(tf.square(tf.cast(gradient, tf.float32)))


def _as_rows(gradients: Sequence[Gradient]) -> tf.Tensor:
    """The elements that any of the gradients has, side by side: (N, elements)."""
    given = [gradient for gradient in gradients if gradient is not None]
    if not all(isinstance(gradient, tf.IndexedSlices) for gradient in given):
        # A weight that is also used whole has a gradient of its size anyway.
        given = [tf.convert_to_tensor(gradient) for gradient in given]
        flat = iter([tf.cast(tf.reshape(dense, [-1]), tf.float32) for dense in given])
        zeros = tf.zeros([tf.size(given[0])])
        return tf.stack([zeros if g is None else next(flat) for g in gradients])
    # The tables' rows that occur get numbers from 0, the same for all gradients.
    occurring, numbers = tf.unique(
        tf.concat([tf.cast(slices.indices, tf.int64) for slices in given], axis=0)
    )
    counts = [tf.size(slices.indices) for slices in given]
    parts = iter(tf.split(numbers, counts))
    width = given[0].values.shape[1:].num_elements()
    rows = []
    for gradient in gradients:
        if gradient is None:
            rows.append(tf.zeros([tf.size(occurring) * width]))
            continue
        values = tf.cast(gradient.values, tf.float32)
        summed = tf.math.unsorted_segment_sum(values, next(parts), tf.size(occurring))
        rows.append(tf.reshape(summed, [-1]))
    return tf.stack(rows)
