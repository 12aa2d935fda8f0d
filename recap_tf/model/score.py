"""The final score: what a post is worth to a viewer, from all tasks' probabilities."""

import math
from collections.abc import Mapping, Sequence

import tensorflow as tf

from recap_tf.data.tasks import check_known


def check_score_weights(
    setting: str, weights: Mapping[str, float], tasks: Sequence[str]
) -> None:
    """Raises ValueError unless `weights` are finite and of known tasks."""
    check_known(setting, weights, tasks)
    for task, weight in weights.items():
        if not math.isfinite(weight):
            raise ValueError(
                f"{setting}[{task!r}] must be a finite number. Received: {weight}"
            )


def weighted_score(probabilities: tf.Tensor, weights: tf.Tensor) -> tf.Tensor:
    """The final score, sum_t weights_t * probabilities_t: (batch,) float32.

    Args:
        probabilities: (batch, tasks), calibrated.
        weights: (tasks,), or (batch, tasks) for each row its own, or (1, tasks).

    >>> import tensorflow as tf
    >>> from recap_tf.model.score import weighted_score
    >>> probabilities = tf.constant([[0.5, 0.25], [0.0, 1.0]])
    >>> weighted_score(probabilities, tf.constant([1.0, -2.0])).numpy().tolist()
    [0.0, -2.0]
    """
    # Broadcast only this way: many rows of weights do not make one post many.
    weights = tf.broadcast_to(weights, tf.shape(probabilities))
    # No matrix product: on accelerators its inputs would be rounded.
    return tf.reduce_sum(probabilities * weights, axis=-1)
