"""What MRR and hit rate share: they look at the first positive of every list."""

import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.group_metric import GroupMetric
from recap_tf.metrics.machinery.ranked_lists import RankedLists


class FirstPositiveMetric(GroupMetric):
    """A mean over lists of what the place of their first positive is worth.

    Args:
        k: places of a list that count, at least 1; None for all.
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None = None,
        k: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("k", k, at_least=1, none="all places")
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.k = k
        self.label_threshold = label_threshold

    def worth(self, lists: RankedLists) -> tf.Tensor:
        """What an example at each place would be worth, (examples,)."""
        raise NotImplementedError

    def of_groups(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        chance = first_positive(lists, lists.labels > self.label_threshold)
        value = lists.in_group(chance * self.worth(lists))
        return value, lists.mean_weight(), lists.in_group(chance) > 0


def first_positive(lists: RankedLists, positive: tf.Tensor) -> tf.Tensor:
    """The chance that an example's place holds its list's first positive: (examples,).

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
