"""How good the top of each request's list is: NDCG, reciprocal rank, hits."""

import math

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.group_metric import GroupMetric
from recap_tf.metrics.ranked_lists import RankedLists, ranked_lists


class _ListMetric(GroupMetric):
    """A mean over lists, cut at the first k places.

    Args:
        k: places of a list that count; None for all.
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None,
        k: int | None,
        label_threshold: float,
        name: str | None,
        dtype: str,
    ):
        check_places(k)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.k = k
        self.label_threshold = label_threshold

    def worth(self, lists: RankedLists) -> tf.Tensor:
        """What an example at each place would be worth, [examples]."""
        raise NotImplementedError

    def of_groups(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        chance = first_positive(lists, lists.labels > self.label_threshold)
        value = lists.in_group(chance * self.worth(lists))
        return value, mean_weight(lists), lists.in_group(chance) > 0

    def get_config(self):
        config = {"k": self.k, "label_threshold": self.label_threshold}
        return super().get_config() | config


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class MeanReciprocalRank(_ListMetric):
    """MRR: one over the place of the first positive, mean over the lists (groups).

        MRR = mean over lists with a positive of 1 / place of the first positive

    1 is a positive on top of each list. Among equal scores the value expected of a
    random order is taken. A list counts with the mean weight of its examples; a weight
    of 0 takes an example out of its list. Call, NaN, standard error and memory: as
    `GroupMetric`. Source: Voorhees 1999 (TREC-8).

    Args:
        k: a first positive after place k counts 0; None for no limit.
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None = None,
        k: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = "mrr",
        dtype: str = "float64",
    ):
        super().__init__(tasks, k, label_threshold, name, dtype)

    def worth(self, lists: RankedLists) -> tf.Tensor:
        return within(self.k, lists.place) / lists.place


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class HitRate(_ListMetric):
    """hit@k: share of the lists (groups) with a positive that have one in the first k.

    Ties, weights, call, NaN, standard error and memory: as `MeanReciprocalRank`.

    Args:
        k: how many places are looked at.
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None = None,
        k: int = 10,
        label_threshold: float = 0.5,
        name: str | None = "hit_rate",
        dtype: str = "float64",
    ):
        super().__init__(tasks, k, label_threshold, name, dtype)

    def worth(self, lists: RankedLists) -> tf.Tensor:
        return within(self.k, lists.place)


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
        k: places of a list that count; None for all.
    """

    def __init__(
        self,
        tasks: int | None = None,
        k: int | None = 10,
        name: str | None = "ndcg",
        dtype: str = "float64",
    ):
        check_places(k)
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.k = k

    def of_groups(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        gains = tf.nn.relu(lists.labels)
        best = ranked_lists(lists.group, gains, gains, tf.ones_like(gains))
        reached, possible = self._gained(lists), self._gained(best)
        value = tf.math.divide_no_nan(reached, possible)
        return value, mean_weight(lists), possible > 0

    def _gained(self, lists: RankedLists) -> tf.Tensor:
        discount = (
            within(self.k, lists.place) * math.log(2) / tf.math.log1p(lists.place)
        )
        return lists.in_group(tf.nn.relu(lists.labels) * lists.over_ties(discount))

    def get_config(self):
        return super().get_config() | {"k": self.k}


def check_places(k: int | None) -> None:
    if k is not None and k < 1:
        raise ValueError(f"k must be at least 1, or None. Received: {k}")


def within(k: int | None, place: tf.Tensor) -> tf.Tensor:
    """1 for the first k places, 0 for those after."""
    if k is None:
        return tf.ones_like(place)
    return tf.cast(place <= k, place.dtype)


def mean_weight(lists: RankedLists) -> tf.Tensor:
    return lists.in_group(lists.weights) / lists.in_group(tf.ones_like(lists.weights))


def first_positive(lists: RankedLists, positive: tf.Tensor) -> tf.Tensor:
    """Chance that an example's place holds its list's first positive, [examples].

    It is one of the places of the first set of ties with a positive. With p positives
    among m ties in random order, the first of them is the j-th with the chance
    C(m - j, p - 1) / C(m, p).
    """
    positive = tf.cast(positive, tf.float64)
    ones = tf.ones_like(positive)
    p, m = lists.in_block(positive), lists.in_block(ones)
    # How many positives the list has up to the end of the example's ties.
    before = tf.cumsum(lists.in_group(positive), exclusive=True)
    seen = tf.cumsum(positive) - tf.gather(before, lists.group)
    seen = tf.gather(tf.math.segment_max(seen, lists.block), lists.block)
    first_block = (p > 0) & (seen == p)
    start = tf.gather(tf.math.segment_min(lists.place, lists.block), lists.block)
    j = lists.place - start + 1
    possible = first_block & (p - 1 <= m - j)
    # Where it is not possible, numbers that the logarithms can take.
    p = tf.where(possible, p, ones)
    log_chance = _log_choose(tf.where(possible, m - j, m), p - 1) - _log_choose(m, p)
    return tf.where(possible, tf.exp(log_chance), tf.zeros_like(p))


def _log_choose(n: tf.Tensor, k: tf.Tensor) -> tf.Tensor:
    return tf.math.lgamma(n + 1) - tf.math.lgamma(k + 1) - tf.math.lgamma(n - k + 1)
