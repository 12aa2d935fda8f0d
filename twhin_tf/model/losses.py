"""Losses: the scores of edges and of their negatives -> one number."""

import abc
import dataclasses
from collections.abc import Sequence

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range

_NEVER = -1e9


@dataclasses.dataclass(frozen=True)
class NegativeScores:
    """Scores of candidates for one side.

    Args:
        scores: (batch, n).
        keep: (batch, n) bool, which of them count; none for all.
        edges: (batch,): scores of the edges, as they compare with these.
        columns: where the edge itself is among them, (batch,) the place, or -1 for an
            edge that has no candidates here; none if edges are not among them.
    """

    scores: tf.Tensor
    keep: tf.Tensor | None
    edges: tf.Tensor
    columns: tf.Tensor | None = None


class EdgeLoss(abc.ABC):
    """A loss of edges and their negatives, which training minimises."""

    takes_all_nodes = False
    """Whether edges may be among their candidates."""

    @abc.abstractmethod
    def __call__(
        self,
        positives: tf.Tensor,
        negatives: Sequence[NegativeScores],
        weights: tf.Tensor | None,
    ) -> tf.Tensor:
        """The mean over the batch.

        Args:
            positives: (batch,) scores of the edges.
            negatives: of each sampler and side.
            weights: (batch,) of the edges; none for 1.
        """


@gin.register
class LogisticLoss(EdgeLoss):
    """Cross entropy with label 1 for edges and 0 for negatives.

        loss = (sum of log(1 + e^-s) over edges + P / N * sum of log(1 + e^s) over
                negatives) / (P + N)

    P edges, N negatives that count: both weigh the same. TwHIN (arXiv:2202.05387,
    eq. 2). Divided by P + N, gradients of an edge shrink with the batch: learning rates
    of plain SGD go with its size.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.losses import LogisticLoss, NegativeScores
    >>> edges = tf.constant([0.0])
    >>> negatives = NegativeScores(scores=tf.zeros([1, 3]), keep=None, edges=edges)
    >>> round(float(LogisticLoss()(edges, [negatives], None)), 4)  # (1 + 1) log(2) / 4
    0.3466
    """

    def __call__(self, positives, negatives, weights):
        count = tf.cast(tf.size(positives), tf.float32)
        negative_count = tf.add_n([_counted(given) for given in negatives])
        weights = tf.ones_like(positives) if weights is None else weights
        weights /= count + negative_count
        share = weights * count / tf.maximum(negative_count, 1.0)
        losses = [_weighted_softplus(-positives[:, tf.newaxis], None, weights)]
        losses += [
            _weighted_softplus(given.scores, given.keep, share) for given in negatives
        ]
        return tf.add_n(losses)


@gin.register
class SoftmaxLoss(EdgeLoss):
    """Cross entropy of the edge among its candidates, per sampler and side.

        loss = mean over edges of sum over samplers and sides of
               -log(e^s / (e^s + sum of e^s' over the candidates))

    With log-Q corrected scores a sampled softmax (Bengio & Senecal 2008).

    Args:
        label_smoothing: this share of the label, in [0, 1), is spread over all
            candidates.

    >>> import tensorflow as tf
    >>> from twhin_tf.model.losses import NegativeScores, SoftmaxLoss
    >>> edges = tf.constant([0.0])
    >>> negatives = NegativeScores(scores=tf.zeros([1, 3]), keep=None, edges=edges)
    >>> round(float(SoftmaxLoss()(edges, [negatives], None)), 4)  # log(4)
    1.3863
    """

    takes_all_nodes = True

    def __init__(self, label_smoothing: float = 0.0):
        setting = "SoftmaxLoss.label_smoothing"
        check_range(setting, label_smoothing, at_least=0, below=1)
        self.label_smoothing = label_smoothing

    def __call__(self, positives, negatives, weights):
        by_edge = tf.add_n([self._cross_entropy(given) for given in negatives])
        if weights is not None:
            by_edge *= weights
        return tf.reduce_mean(by_edge)

    def _cross_entropy(self, negatives: NegativeScores) -> tf.Tensor:
        scores = negatives.scores
        if negatives.keep is not None:
            scores = tf.where(negatives.keep, scores, _NEVER)
        if negatives.columns is None:
            scores = tf.concat([negatives.edges[:, tf.newaxis], scores], axis=1)
            labels = tf.zeros_like(negatives.edges, tf.int32)
        else:
            labels = tf.maximum(negatives.columns, 0)
        losses = _cross_entropy(scores, labels)
        if self.label_smoothing:
            flatness = self._flatness(scores, labels, negatives.keep)
            losses += self.label_smoothing * flatness
        if negatives.columns is None:
            return losses
        return tf.where(negatives.columns >= 0, losses, 0.0)

    def _flatness(self, scores, labels, keep) -> tf.Tensor:
        """What to add per unit of smoothing: the true score less the mean one."""
        true = tf.gather(scores, labels, batch_dims=1)
        if keep is None:
            return true - tf.reduce_mean(scores, axis=1)
        count = tf.reduce_sum(tf.cast(keep, tf.float32), axis=1) + 1.0
        counted = tf.where(scores > _NEVER, scores, 0.0)
        return true - tf.reduce_sum(counted, axis=1) / count


@tf.custom_gradient
def _cross_entropy(scores: tf.Tensor, labels: tf.Tensor):
    """Cross entropy, -log softmax(scores) at the labels: (batch,).

    Args:
        scores: (batch, n).
        labels: (batch,) integers below n.
    """
    # TensorFlow's, when it has to be deterministic, adds up a gather's gradient row by
    # row, which takes longer than the matrix products around it.
    log_sum = tf.reduce_logsumexp(scores, axis=1)
    true = tf.gather(scores, labels, batch_dims=1)

    def gradient(upstream):
        shares = tf.exp(scores - log_sum[:, tf.newaxis])
        shares -= tf.one_hot(labels, scores.shape[1])
        return shares * upstream[:, tf.newaxis], None

    return log_sum - true, gradient


def _counted(negatives: NegativeScores) -> tf.Tensor:
    if negatives.keep is None:
        return tf.cast(tf.size(negatives.scores), tf.float32)
    return tf.reduce_sum(tf.cast(negatives.keep, tf.float32))


def _weighted_softplus(
    scores: tf.Tensor, keep: tf.Tensor | None, weights: tf.Tensor
) -> tf.Tensor:
    """The sum over all of weight * log(1 + e^score) where `keep`.

    Args:
        scores: (batch, n).
        keep: (batch, n) bool; none for all.
        weights: (batch,), constants.
    """

    @tf.custom_gradient
    def total(scores):
        losses, gradient = _softplus(scores, keep, weights)
        return tf.tensordot(weights, losses, 1), lambda upstream: upstream * gradient

    return total(scores)


@tf.function(jit_compile=True, autograph=False)
def _softplus(
    scores: tf.Tensor, keep: tf.Tensor | None, weights: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor]:
    """The rows' sums of log(1 + e^score), and weight * its derivative.

    To within 1e-7, as much as a sum with others keeps. With XLA: two passes of what are
    eight, over most of a step's numbers if vectors are short.
    """
    less = tf.exp(-tf.abs(scores))
    losses = tf.maximum(scores, 0.0) + tf.math.log(1.0 + less)
    slopes = tf.where(scores < 0, less, 1.0) / (1.0 + less)
    if keep is not None:
        losses, slopes = tf.where(keep, losses, 0.0), tf.where(keep, slopes, 0.0)
    return tf.reduce_sum(losses, axis=1), weights[:, tf.newaxis] * slopes
