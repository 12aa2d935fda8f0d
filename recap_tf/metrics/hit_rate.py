"""Hit rate: how many lists have a positive among their first k places."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.first_positive_metric import FirstPositiveMetric
from recap_tf.metrics.machinery.ranked_lists import RankedLists, within


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class HitRate(FirstPositiveMetric):
    """hit@k: share of the lists (groups) with a positive that have one in the first k.

    Ties, weights, call, NaN, standard error and memory: as `MeanReciprocalRank`.

    Args:
        k: how many places are looked at; at least 1.
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.hit_rate import HitRate
    >>> hits = HitRate(k=1)  # user 8's positive is second
    >>> hits.update_state([1, 0, 0, 1], [0.9, 0.8, 0.2, 0.1], groups=[7, 7, 8, 8])
    >>> float(hits.result())
    0.5
    """

    default_name = "hit_rate"

    def __init__(
        self,
        tasks: int | None = None,
        k: int = 10,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        super().__init__(tasks, k, label_threshold, name, dtype)

    def worth(self, lists: RankedLists) -> tf.Tensor:
        return within(self.k, lists.place)
