"""Uncertainty weighting: tasks that are hard to predict count less."""

from collections.abc import Sequence

import gin
import tensorflow as tf

from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.losses.task_balancing import TaskBalancing, checked_learning_rate


@gin.register
class UncertaintyWeighting(TaskBalancing):
    """Weights each task's loss by a learned uncertainty of the task.

        loss = reduction_t(exp(-s_t) * loss_t + s_t / 2),   s_t = log(sigma_t^2)

    The form for classification of Kendall, Gal & Cipolla 2018 (arXiv:1705.07115, eq.
    10: loss / sigma^2 + log sigma). For a given loss_t the best s_t is log(2 loss_t):
    the weights go to 1 / (2 loss_t). The total can be negative.

    Args:
        tasks: see `TaskBalancing`.
        learning_rate: of the s_t, which start from 0; a number above 0 or a schedule.

    >>> from recap_tf.losses.uncertainty_weighting import UncertaintyWeighting
    >>> balancing = UncertaintyWeighting(["click", "like"])
    >>> balancing.learned()
    {'click': 1.0, 'like': 1.0}
    """

    def __init__(self, tasks: Sequence[str], learning_rate: float | Schedule = 0.01):
        super().__init__(tasks)
        self.learning_rate = checked_learning_rate(
            "UncertaintyWeighting", learning_rate
        )
        self.log_variances = tf.Variable(tf.zeros([len(tasks)]), name="log_variances")

    def weights(self):
        return tf.exp(-self.log_variances)

    def penalties(self):
        return self.log_variances / 2.0
