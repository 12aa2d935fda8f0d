"""Mean reciprocal rank: how high the first positive of each list is."""

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.metrics.machinery.first_positive_metric import FirstPositiveMetric
from recap_tf.metrics.machinery.ranked_lists import RankedLists, within


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class MeanReciprocalRank(FirstPositiveMetric):
    """MRR: one over the place of the first positive, mean over the lists (groups).

        MRR = mean over lists with a positive of 1 / place of the first positive

    1 is a positive on top of each list. Among equal scores the value expected of a
    random order is taken. A list counts with the mean weight of its examples; a weight
    of 0 takes an example out of its list. Call, NaN, standard error and memory: as
    `GroupMetric`. Source: Voorhees 1999 (TREC-8).

    Args:
        k: a first positive after place k counts 0; None for no limit.
        label_threshold: labels above it are positives.

    >>> from recap_tf.metrics.mrr import MeanReciprocalRank
    >>> mrr = MeanReciprocalRank()  # the places are 1 and 2
    >>> mrr.update_state([1, 0, 0, 1], [0.9, 0.8, 0.2, 0.1], groups=[7, 7, 8, 8])
    >>> float(mrr.result())
    0.75
    """

    default_name = "mrr"

    def worth(self, lists: RankedLists) -> tf.Tensor:
        return within(self.k, lists.place) / lists.place
