"""Downsampling of negatives in training: the positives of many batches in one."""

import dataclasses
from collections.abc import Sequence

import gin
import tensorflow as tf

from recap_tf.core.checks import check_range
from recap_tf.data.preprocess_steps import Step
from recap_tf.data.tasks import check_known


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class DownsampleNegatives(Step):
    """Fills a batch with the positives of a larger one first, then negatives.

    B examples of batch_multiplier * B stay: the P that have any of the engagements, in
    their order, then negatives, in theirs. The negatives' weights are multiplied by

        (batch_multiplier * B - P) / (B - P)

    the number of negatives each stands for; so a loss is about batch_multiplier times
    that of a batch that was not downsampled. If P > B, surplus positives are dropped
    and the log says so: choose a smaller multiplier then.

    >>> from recap_tf.data.downsampling import DownsampleNegatives
    >>> step = DownsampleNegatives(batch_multiplier=2, engagements=["like"])
    >>> labels = tf.constant([[0], [0], [1], [0]])
    >>> features, labels, weights = step(({}, labels, tf.ones([4, 1])), ["like"])
    >>> labels.numpy().tolist(), weights.numpy().tolist()
    ([[1], [0]], [[1.0], [3.0]])

    Args:
        batch_multiplier: how many batches are read for one that is trained on;
            at least 1.
        engagements: tasks; an example with label 1 for any of them is a positive.
    """

    batch_multiplier: int
    engagements: Sequence[str]
    order = 1
    training_only = True

    def __post_init__(self):
        check_range(
            "DownsampleNegatives.batch_multiplier", self.batch_multiplier, at_least=1
        )

    def check_tasks(self, tasks):
        check_known("DownsampleNegatives.engagements", self.engagements, tasks)

    def __call__(self, batch, tasks):
        features, labels, weights = batch
        self.check_tasks(tasks)
        columns = [tasks.index(task) for task in self.engagements]
        positive = tf.reduce_any(tf.gather(labels, columns, axis=1) == 1, axis=1)
        read = labels.shape[0] or tf.shape(labels)[0]
        places = read // self.batch_multiplier
        positives = tf.math.count_nonzero(positive, dtype=tf.int32)
        tf.cond(
            positives > places,
            lambda: tf.print(
                "DownsampleNegatives:", positives, "positives for", places, "places"
            ),
            tf.no_op,
        )
        rows = tf.concat([tf.where(positive)[:, 0], tf.where(~positive)[:, 0]], 0)
        rows = tf.reshape(rows[:places], [places])
        factor = tf.math.divide_no_nan(
            tf.cast(read - positives, tf.float32),
            tf.cast(places - positives, tf.float32),
        )
        stands_for = tf.where(tf.gather(positive, rows), 1.0, factor)
        return (
            {name: _take(value, rows) for name, value in features.items()},
            tf.gather(labels, rows),
            tf.gather(weights, rows) * stands_for[:, tf.newaxis],
        )


def _take(x: tf.Tensor | tf.SparseTensor, rows: tf.Tensor):
    if isinstance(x, tf.SparseTensor):
        return tf.gather(tf.RaggedTensor.from_sparse(x), rows).to_sparse()
    return tf.gather(x, rows)
