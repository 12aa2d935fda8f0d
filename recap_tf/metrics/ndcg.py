"""Normalized discounted cumulative gain: how good the top of each list is."""

import math

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.group_metric import GroupMetric
from recap_tf.metrics.machinery.ranked_lists import RankedLists, ranked_lists, within


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class NDCG(GroupMetric):
    """Normalized discounted cumulative gain, mean over the lists (groups).

        DCG  = sum over places i = 1..k of gain_i / log2(1 + i)
        NDCG = DCG / DCG of the best order

    The gain is the label itself: 0 or 1, or what an engagement is worth. Gains below 0
    count as 0. Lists without a gain are left out; `coverage` says how much is left.
    Among equal scores the value expected of a random order is taken. A list counts with
    the mean weight of its examples; a weight of 0 takes an example out of its list.
    Call, NaN, standard error and memory: as `GroupMetric`. Source: Jarvelin and
    Kekalainen 2002 (ACM TOIS); ties: McSherry and Najork 2008 (ECIR).

    Args:
        k: places of a list that count, at least 1; None for all.

    >>> from recap_tf.metrics.ndcg import NDCG
    >>> ndcg = NDCG(k=10)
    >>> ndcg.update_state([0, 1, 0], [0.9, 0.8, 0.1], groups=[7, 7, 7])
    >>> round(float(ndcg.result()), 4)  # 1 / log2(3)
    0.6309
    """

    default_name = "ndcg"

    def __init__(
        self,
        tasks: int | None = None,
        k: int | None = 10,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("k", k, at_least=1, none="all places")
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.k = k

    def of_groups(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        gains = tf.nn.relu(lists.labels)
        best = ranked_lists(lists.group, gains, gains, tf.ones_like(gains))
        reached, possible = self._gained(lists), self._gained(best)
        value = tf.math.divide_no_nan(reached, possible)
        return value, lists.mean_weight(), possible > 0

    def _gained(self, lists: RankedLists) -> tf.Tensor:
        discount = (
            within(self.k, lists.place) * math.log(2) / tf.math.log1p(lists.place)
        )
        return lists.in_group(tf.nn.relu(lists.labels) * lists.over_ties(discount))
