"""Products of vectors with one of several matrices each, in static shapes."""

import numpy as np
import tensorflow as tf

# One product with all matrices side by side, then picking the row's own, is faster
# than fetching a matrix for every row: for so many groups, or columns of all together.
_MOST_GROUPS, _MOST_COLUMNS = 16, 512


def grouped_product(
    vectors: tf.Tensor, matrices: tf.Tensor, group: tf.Tensor
) -> tf.Tensor:
    """Products of vectors with their groups' matrices.

        out[i, k] = vectors[i] . matrices[group[i], k]

    Args:
        vectors: (batch, dim).
        matrices: (groups, rows, dim).
        group: (batch,) integers; of no account for one group.

    Returns:
        (batch, rows).
    """
    groups, rows, dim = matrices.shape
    if groups == 1:
        return tf.matmul(vectors, matrices[0], transpose_b=True)
    if dim < rows and groups <= _MOST_GROUPS:
        # Each vector in the columns of its group, zeros in the others': less than the
        # products with the matrices of all groups.
        blocks = tf.transpose(matrices, [0, 2, 1])
        spread = _own_columns(group, groups, dim) * _repeated(vectors, groups)
        return tf.matmul(spread, tf.reshape(blocks, [groups * dim, rows]))
    if groups <= _MOST_GROUPS or groups * rows <= _MOST_COLUMNS:
        flat = tf.reshape(matrices, [groups * rows, dim])
        products = tf.matmul(vectors, flat, transpose_b=True)
        return pick(products, groups, group)
    return tf.linalg.matvec(tf.gather(matrices, group), vectors)


def pick(products: tf.Tensor, groups: int, group: tf.Tensor) -> tf.Tensor:
    """Picks those of each row's group: (batch, groups * rows) -> (batch, rows)."""
    rows = products.shape[1] // groups
    group = tf.cast(group, tf.int32)

    @tf.custom_gradient
    def picked(products):
        def gradient(upstream):
            # Adding rows up one by one, as TensorFlow would, is slower.
            return _own_columns(group, groups, rows) * _repeated(upstream, groups)

        places = tf.range(tf.shape(products)[0]) * groups + group
        return tf.gather(tf.reshape(products, [-1, rows]), places), gradient

    return picked(products)


def _repeated(vectors: tf.Tensor, times: int) -> tf.Tensor:
    """Repeats rows side by side: (batch, n) -> (batch, times * n).

    Faster than broadcasting and `tf.tile`.
    """
    size = vectors.shape[1]
    side_by_side = tf.constant(np.tile(np.eye(size), times), tf.float32)
    return tf.matmul(vectors, side_by_side)


def _own_columns(group: tf.Tensor, groups: int, size: int) -> tf.Tensor:
    """A mask, (batch, groups * size): 1 in the `size` columns of each row's group."""
    spread = tf.constant(np.repeat(np.eye(groups), size, axis=1), tf.float32)
    return tf.matmul(tf.one_hot(group, groups), spread)


def few_rows(table: tf.Variable, rows: tf.Tensor) -> tf.Tensor:
    """Looks up a table of few rows, which then all have gradients: (batch, dim)."""
    size = table.shape[0]
    if size > _MOST_COLUMNS:
        return tf.gather(table, rows)

    @tf.custom_gradient
    def looked_up(whole):
        def gradient(upstream):
            chosen = tf.one_hot(rows, size, dtype=upstream.dtype)
            return tf.matmul(chosen, upstream, transpose_a=True)

        return tf.gather(whole, rows), gradient

    return looked_up(tf.convert_to_tensor(table))
