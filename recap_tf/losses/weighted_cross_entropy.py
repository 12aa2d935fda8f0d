"""Cross-entropy with positive weights."""

import dataclasses

import gin
import tensorflow as tf

from recap_tf.losses.pointwise_loss import PointwiseLoss


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(PointwiseLoss):
    """Binary cross-entropy of a logit x.

        loss = pos_weight * y * softplus(-x) + (1 - y) * softplus(x)

    The positive weight of a task makes its rare positives count more; it moves the
    probabilities up with it, by log(pos_weight) in the logit.

    >>> import tensorflow as tf
    >>> from recap_tf.losses.weighted_cross_entropy import CrossEntropy
    >>> labels, logits = tf.constant([[1.0], [0.0]]), tf.zeros([2, 1])
    >>> losses = CrossEntropy()(["click"], labels, logits, tf.constant([2.0]))
    >>> [round(float(loss), 4) for loss in losses[:, 0]]  # 2 log 2 and log 2
    [1.3863, 0.6931]
    """

    def losses(self, tasks, labels, logits, pos_weights):
        return tf.nn.weighted_cross_entropy_with_logits(labels, logits, pos_weights)
