"""Pairwise logistic loss: in a request, positives are to score above negatives."""

import dataclasses
from collections.abc import Mapping

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class PairwiseLogistic:
    """RankNet's loss over the (positive i, negative j) pairs of a group in the batch.

        loss_t = sum_ij w_it * w_jt * softplus(x_jt - x_it) / sum_ij w_it * w_jt

    x the logits of task t, w the examples' weights; 0 without pairs. As a sum over
    the batch (`MultiTaskLoss.task_reduction`) it is not divided. Burges et al. 2005
    (RankNet, eq. 3). It sees only differences of logits: alone, without cross-entropy
    beside it, it leaves the probabilities uncalibrated.

    Members of a group must meet in a batch, under `mirrored` in a replica's part of
    it; `pairs/<task>` in TensorBoard says how many pairs a batch held on average. To
    make them meet, write each group's records next to each other and read them with
    Records.shuffle_size = 1 and Records.parallel_reads = 1: the files are still
    shuffled. For each task some (batch, batch) float32 matrices are made: 4 MB each
    at batch 1024.

    Args:
        group_feature: name inside the model of the feature that says which examples
            belong together, one integer or string each, such as a user or request id.
        factor: of this loss beside the pointwise one; above 0.

    >>> import tensorflow as tf
    >>> from recap_tf.losses.pairwise_loss import PairwiseLogistic
    >>> loss = PairwiseLogistic(group_feature="user_id")
    >>> labels, logits = tf.constant([[1.0], [0.0]]), tf.constant([[0.3], [0.3]])
    >>> users = {"user_id": tf.constant([7, 7])}
    >>> losses = loss(labels, logits, tf.ones([2, 1]), users, mean=True)
    >>> round(float(losses[0]), 4)  # one pair, and a tie: log 2
    0.6931
    """

    group_feature: str
    factor: float = 1.0

    def __post_init__(self):
        check_range("PairwiseLogistic.factor", self.factor, above=0)

    def check_features(self, specs: Mapping[str, tf.TensorSpec]) -> None:
        """Raises ValueError unless `specs` has the group feature, one id each."""
        name = self.group_feature
        if name not in specs:
            raise ValueError(
                f"PairwiseLogistic.group_feature = {name!r} is not among the features "
                f"{sorted(specs)}. Records.extra_features reads more of them."
            )
        spec = specs[name]
        kinds = spec.dtype.is_integer or spec.dtype == tf.string
        if spec.shape[1:].num_elements() != 1 or not kinds:
            raise ValueError(
                f"PairwiseLogistic.group_feature = {name!r} must hold one integer or "
                f"string per example. Received: {spec.dtype.name} of shape "
                f"{tuple(spec.shape)}"
            )

    def __call__(
        self,
        labels: tf.Tensor,
        logits: tf.Tensor,
        weights: tf.Tensor,
        features: Mapping[str, tf.Tensor],
        mean: bool,
    ) -> tf.Tensor:
        """The loss of every task.

        Args:
            labels, logits, weights: (batch, tasks) float32.
            features: name -> tensor; the group feature among them.
            mean: whether to average over the pairs; else their sum.

        Returns:
            (tasks,) float32.
        """
        same = self._same_group(features)
        losses = []
        # Task by task: all at once would be a tensor of batch x batch x tasks.
        for task in range(logits.shape[1]):
            pairs = _pair_weights(labels[:, task], weights[:, task], same)
            x = logits[:, task]
            total = tf.reduce_sum(pairs * tf.nn.softplus(x[tf.newaxis] - x[:, None]))
            if mean:
                total = tf.math.divide_no_nan(total, tf.reduce_sum(pairs))
            losses.append(total)
        return tf.stack(losses)

    def count_pairs(
        self,
        labels: tf.Tensor,
        weights: tf.Tensor,
        features: Mapping[str, tf.Tensor],
    ) -> tf.Tensor:
        """How many pairs the loss of each task is about, (tasks,) float32."""
        same = self._same_group(features)
        counts = [
            tf.math.count_nonzero(
                _pair_weights(labels[:, task], weights[:, task], same), dtype=tf.float32
            )
            for task in range(labels.shape[1])
        ]
        return tf.stack(counts)

    def _same_group(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Whether two examples are of one group, (batch, batch) float32: 1 or 0."""
        ids = tf.reshape(features[self.group_feature], [-1])
        return tf.cast(tf.equal(ids[:, tf.newaxis], ids[tf.newaxis]), tf.float32)


def _pair_weights(labels: tf.Tensor, weights: tf.Tensor, same: tf.Tensor) -> tf.Tensor:
    """The weights of pairs (positive, negative), (batch, batch); 0 where none is."""
    positives, negatives = weights * labels, weights * (1.0 - labels)
    return same * positives[:, tf.newaxis] * negatives[tf.newaxis]
