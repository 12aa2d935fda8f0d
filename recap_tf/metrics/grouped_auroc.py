"""AUROC within groups: does the model order what one user sees?"""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.group_metric import GroupMetric
from recap_tf.metrics.machinery.ranked_lists import RankedLists


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class GroupedAUROC(GroupMetric):
    """GAUC: the AUROC of each group, averaged by its impressions.

        GAUC = sum(W_g * AUROC_g) / sum(W_g),  W_g the weight of the group's examples

    Groups that lack a class are left out; `coverage` says which share of the
    impressions (by weight) counted. Ties count half. Call, NaN, standard error and
    memory: as `GroupMetric`. Source: Zhou et al. 2018 (KDD, arXiv:1706.06978), eq. 7.

    Args:
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.grouped_auroc import GroupedAUROC
    >>> gauc = GroupedAUROC()  # below, each user's positive is on top
    >>> gauc.update_state([1, 0, 1, 0], [0.9, 0.8, 0.2, 0.1], groups=[7, 7, 8, 8])
    >>> float(gauc.result())
    1.0
    """

    default_name = "gauc"

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_threshold = label_threshold

    def of_groups(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        is_positive = lists.labels > self.label_threshold
        positive = tf.where(is_positive, lists.weights, 0.0)
        negative = lists.weights - positive
        p, n = lists.in_group(positive), lists.in_group(negative)
        # Negatives of the examples before it and of its ties, within its group.
        seen = tf.cumsum(negative) - tf.gather(
            tf.cumsum(n, exclusive=True), lists.group
        )
        tied = lists.in_block(negative)
        last_of_block = tf.math.segment_max(seen, lists.block)
        below = tf.gather(n, lists.group) - tf.gather(last_of_block, lists.block)
        won = lists.in_group(positive * (below + tied / 2))
        weight = lists.in_group(lists.weights)
        return tf.math.divide_no_nan(won, p * n), weight, (p > 0) & (n > 0)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class GAUCCoverage(GroupedAUROC):
    """The share of the impressions that GAUC is about: its `coverage`.

        coverage = sum(W_g over the groups that have both classes) / sum(W_g)

    Low where most users never engage: GAUC then speaks of few. Standard error: groups
    are independent draws. Call and memory: as `GroupedAUROC`.

    >>> from recap_tf.metrics.grouped_auroc import GAUCCoverage
    >>> coverage = GAUCCoverage()  # user 8 has no positive
    >>> coverage.update_state([1, 0, 0, 0], [0.9, 0.8, 0.2, 0.1], groups=[7, 7, 8, 8])
    >>> float(coverage.result())
    0.5
    """

    default_name = "gauc_coverage"

    def __init__(self, tasks: int | None = None, name: str | None = None, **settings):
        super().__init__(tasks=tasks, name=name, **settings)

    def value_and_error(self) -> tuple[tf.Tensor, tf.Tensor]:
        share, error = self.coverage_and_error()
        return tf.cast(share, self.dtype), error
