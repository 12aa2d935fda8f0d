"""Where the positives of one list per batch are ranked."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.metrics.machinery.ranked_lists import RankedLists, ranked_lists, within
from recap_tf.metrics.machinery.task_metric import value_where
from recap_tf.metrics.machinery.weighted_mean import MeanMetric


class _PositivePlaces(MeanMetric):
    """A mean over the positives of all batches, each batch one list.

    Args:
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_threshold = label_threshold

    def add_examples(
        self, labels: tf.Tensor, scores: tf.Tensor, weights: tf.Tensor
    ) -> None:
        # The tasks' lists side by side, as if they were groups of one.
        task = tf.broadcast_to(tf.range(self.columns), tf.shape(labels))
        flat = [tf.reshape(v, [-1]) for v in (task, scores, labels, weights)]
        mean, weight = self._mean_and_weight(ranked_lists(*flat))
        nan = tf.reduce_any(tf.math.is_nan(scores) & (weights != 0), axis=0)
        mean = tf.cast(value_where(~nan, mean), self.dtype)
        weight = tf.cast(weight, self.dtype)
        # One value per list: its positives are not independent of each other.
        self.add([mean[tf.newaxis]], weight[tf.newaxis])

    def _mean_and_weight(self, lists: RankedLists) -> tuple[tf.Tensor, tf.Tensor]:
        """The mean and the weight of the positives of each column, (columns,)."""
        positive = lists.labels > self.label_threshold
        weight = tf.where(positive, lists.weights, 0.0)
        values = lists.over_ties(self.of_place(lists.place))
        total, weighted = (
            tf.math.unsorted_segment_sum(summed, lists.name, self.columns)
            for summed in (weight, weight * values)
        )
        return tf.math.divide_no_nan(weighted, total), total

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        """The value of a positive at each place, 1 the first."""
        raise NotImplementedError


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PositionOfPositives(_PositivePlaces):
    """Mean place of the positives, each batch being one list; 1 is the highest score.

        value = sum over positives of w * place / sum over positives of w

    Call: (labels, predictions, weight), all (batch, tasks) -> (tasks,); with tasks=None
    all values of a batch are one list. Among equal scores the mean over their places is
    taken. An example of weight 0 is not in the list; a batch without positives changes
    nothing, and until one comes the value is NaN. Standard error: lists are independent
    draws, delta method for the ratio; NaN below two lists with positives.

    Args:
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.rank_of_positives import PositionOfPositives
    >>> position = PositionOfPositives()
    >>> position.update_state([0, 1, 1, 0], [0.9, 0.8, 0.2, 0.1])  # places 2 and 3
    >>> float(position.result())
    2.5
    """

    default_name = "position_of_positives"

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        return place


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ReciprocalRankOfPositives(_PositivePlaces):
    """Mean of 1 / place over all positives, each batch being one list.

    Unlike `MeanReciprocalRank`, which looks at the first positive of each group. All
    else as `PositionOfPositives`.

    >>> from recap_tf.metrics.rank_of_positives import ReciprocalRankOfPositives
    >>> rank = ReciprocalRankOfPositives()
    >>> rank.update_state([1, 1, 0, 0], [0.9, 0.8, 0.2, 0.1])  # places 1 and 2
    >>> float(rank.result())
    0.75
    """

    default_name = "reciprocal_rank_of_positives"

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        return 1 / place


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class HitRateOfPositives(_PositivePlaces):
    """Share of the positives that are among the first k of their batch, one list.

    Unlike `HitRate`, which asks for any positive of a group. All else as
    `PositionOfPositives`.

    Args:
        k: how many places are looked at; at least 1.
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.rank_of_positives import HitRateOfPositives
    >>> hits = HitRateOfPositives(k=2)
    >>> hits.update_state([0, 1, 1, 0], [0.9, 0.8, 0.2, 0.1])  # places 2 and 3
    >>> float(hits.result())
    0.5
    """

    default_name = "hit_rate_of_positives"

    def __init__(
        self,
        tasks: int | None = None,
        k: int = 10,
        label_threshold: float = 0.5,
        name: str | None = None,
        dtype: str = "float64",
    ):
        check_range("k", k, at_least=1, none="all places")
        super().__init__(tasks, label_threshold, name, dtype)
        self.k = k

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        return within(self.k, place)
