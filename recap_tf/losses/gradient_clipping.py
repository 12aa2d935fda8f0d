"""Clipping of gradients by their joint norm."""

from collections.abc import Sequence

import tensorflow as tf

from recap_tf.losses.gradient_arithmetic import Gradient, scale, squared_norm


def clip_by_global_norm(
    gradients: Sequence[Gradient], clip_norm: float
) -> list[Gradient]:
    """Scales all gradients by one factor so that their joint norm is at most given.

        gradient * clip_norm / max(norm, clip_norm),  norm^2 = sum of squares of all

    Pascanu et al. 2013 (arXiv:1211.5063, algorithm 1).

    >>> import tensorflow as tf
    >>> from recap_tf.losses.gradient_clipping import clip_by_global_norm
    >>> [clipped] = clip_by_global_norm([tf.constant([3.0, 4.0])], clip_norm=1.0)
    >>> [round(float(value), 4) for value in clipped]
    [0.6, 0.8]

    Args:
        gradients: of all weights; see `gradient_arithmetic`.
        clip_norm: the largest norm that is left as it is; above 0.
    """
    norm = tf.sqrt(tf.add_n([squared_norm(gradient) for gradient in gradients]))
    factor = clip_norm / tf.maximum(norm, clip_norm)
    return [scale(gradient, factor) for gradient in gradients]
