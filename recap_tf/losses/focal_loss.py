"""Focal loss: cross-entropy that makes light of what the model is sure of."""

import dataclasses

import gin
import tensorflow as tf

from recap_tf.losses.pointwise_loss import PerTask, PointwiseLoss, per_task


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class FocalLoss(PointwiseLoss):
    """Cross-entropy that makes light of what the model is already sure of.

        loss = a * pos_weight * y * (1 - p)^gamma * softplus(-x)
             + b * (1 - y) * p^gamma * softplus(x),   p = sigmoid(x)

    with a = alpha, b = 1 - alpha, or a = b = 1 without alpha. Lin et al. 2017
    (arXiv:1708.02002, eq. 4 and 5). Its probabilities are not calibrated: they are
    drawn towards one half.

    Args:
        gamma: at least 0; 0 gives cross-entropy. A number for all tasks, or task ->
            number, 0 where not listed.
        alpha: weight of the positives, in (0, 1), that of the negatives being the
            rest to 1. None for none; a number, or task -> number, none where not
            listed.

    >>> import tensorflow as tf
    >>> from recap_tf.losses.focal_loss import FocalLoss
    >>> labels, logits = tf.constant([[1.0]]), tf.constant([[0.0]])
    >>> losses = FocalLoss(gamma=2.0)(["click"], labels, logits, pos_weights=[1.0])
    >>> round(float(losses[0, 0]), 4)  # log 2 / 4
    0.1733
    """

    gamma: PerTask = 2.0
    alpha: PerTask | None = None

    def __post_init__(self):
        super().__post_init__()
        self._check("gamma", at_least=0)
        if self.alpha is not None:
            self._check("alpha", above=0, below=1)

    def losses(self, tasks, labels, logits, pos_weights):
        gamma = per_task(self.gamma, tasks, missing=0.0)
        # log p and log (1 - p) with their signs turned; powers of p come from them
        # because the gradient of p^gamma is not finite at p = 0.
        positive, negative = tf.nn.softplus(-logits), tf.nn.softplus(logits)
        of_positives = pos_weights * labels * tf.exp(-gamma * negative) * positive
        of_negatives = (1.0 - labels) * tf.exp(-gamma * positive) * negative
        if self.alpha is not None:
            alpha = per_task(self.alpha, tasks, missing=-1.0)
            none = alpha < 0
            of_positives *= tf.where(none, 1.0, alpha)
            of_negatives *= tf.where(none, 1.0, 1.0 - alpha)
        return of_positives + of_negatives
