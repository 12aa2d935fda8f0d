"""Products of vectors with one of several matrices each, in static shapes."""

import tensorflow as tf

# Up to so many columns of all matrices side by side, one product with all of them and
# picking the row's own is faster than fetching a matrix for every row.
_MOST_COLUMNS = 512


def grouped_product(
    vectors: tf.Tensor, matrices: tf.Tensor, group: tf.Tensor
) -> tf.Tensor:
    """out[i, k] = vectors[i] . matrices[group[i], k].

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
    if groups * rows <= _MOST_COLUMNS:
        flat = tf.reshape(matrices, [groups * rows, dim])
        products = tf.matmul(vectors, flat, transpose_b=True)
        return pick(products, groups, group)
    own = tf.gather(matrices, group)
    return tf.linalg.matvec(own, vectors)


def pick(products: tf.Tensor, groups: int, group: tf.Tensor) -> tf.Tensor:
    """(batch, groups * rows) -> (batch, rows): those of each row's own group."""
    batch, columns = products.shape
    rows = tf.reshape(products, [-1, columns // groups])
    if batch is None:
        batch = tf.shape(products)[0]
    return tf.gather(rows, tf.range(batch) * groups + tf.cast(group, tf.int32))
