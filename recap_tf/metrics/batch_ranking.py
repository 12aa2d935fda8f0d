"""Where the positives of one list per batch are ranked."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.means import WeightedMean
from recap_tf.metrics.ranked_lists import RankedLists, ranked_lists
from recap_tf.metrics.ranking import check_places, within
from recap_tf.metrics.task_metric import plain_python, value_where


class _PositivePlaces(WeightedMean):
    """A mean over the positives of all batches, each batch one list.

    Args:
        label_threshold: labels above it are positives.
    """

    def __init__(
        self, tasks: int | None, label_threshold: float, name: str | None, dtype: str
    ):
        super().__init__(tasks=tasks, name=name, dtype=dtype)
        self.label_threshold = label_threshold

    @plain_python
    def update_state(
        self,
        labels: tf.Tensor,
        predictions: tf.Tensor,
        sample_weight: tf.Tensor | None = None,
    ) -> None:
        labels, scores, weights = self.inputs(
            sample_weight, labels=labels, predictions=predictions
        )

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
        """Of the positives of each column, [columns]."""
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

    def get_config(self):
        return super().get_config() | {"label_threshold": self.label_threshold}


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PositionOfPositives(_PositivePlaces):
    """Mean place of the positives, each batch being one list; 1 is the highest score.

        value = sum over positives of w * place / sum over positives of w

    Call: (labels, predictions, weight), all [batch, tasks] -> [tasks]; with tasks=None
    all values of a batch are one list. Among equal scores the mean over their places is
    taken. An example of weight 0 is not in the list; a batch without positives changes
    nothing, and until one comes the value is NaN. Standard error: lists are independent
    draws, delta method for the ratio; NaN below two lists with positives.

    Args:
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = "position_of_positives",
        dtype: str = "float64",
    ):
        super().__init__(tasks, label_threshold, name, dtype)

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        return place


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ReciprocalRankOfPositives(_PositivePlaces):
    """Mean of 1 / place over all positives, each batch being one list.

    Unlike `MeanReciprocalRank`, which looks at the first positive of each group. All
    else as `PositionOfPositives`.
    """

    def __init__(
        self,
        tasks: int | None = None,
        label_threshold: float = 0.5,
        name: str | None = "reciprocal_rank_of_positives",
        dtype: str = "float64",
    ):
        super().__init__(tasks, label_threshold, name, dtype)

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        return 1 / place


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class HitRateOfPositives(_PositivePlaces):
    """Share of the positives that are among the first k of their batch, one list.

    Unlike `HitRate`, which asks for any positive of a group. All else as
    `PositionOfPositives`.

    Args:
        k: how many places are looked at.
        label_threshold: labels above it are positives.
    """

    def __init__(
        self,
        tasks: int | None = None,
        k: int = 10,
        label_threshold: float = 0.5,
        name: str | None = "hit_rate_of_positives",
        dtype: str = "float64",
    ):
        check_places(k)
        super().__init__(tasks, label_threshold, name, dtype)
        self.k = k

    def of_place(self, place: tf.Tensor) -> tf.Tensor:
        return within(self.k, place)

    def get_config(self):
        return super().get_config() | {"k": self.k}
