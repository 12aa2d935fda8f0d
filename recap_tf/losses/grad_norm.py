"""GradNorm: tasks pull equally hard at what they share, harder if they lag behind."""

import itertools
from collections.abc import Sequence
from typing import Literal

import gin
import tensorflow as tf

from recap_tf.core.checks import check_choice, check_range
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.losses.gradient_arithmetic import squared_norm
from recap_tf.losses.task_balancing import (
    BatchLoss,
    TaskBalancing,
    checked_learning_rate,
)

_SMALLEST = 1e-3


@gin.register
class GradNorm(TaskBalancing):
    """Learns the tasks' weights w_t so that their gradients are of matching norm.

        loss   = reduction_t(w_t * loss_t)
        G_t    = norm of the gradient of w_t * loss_t, over the shared weights W
        rate_t = loss_t / loss_t(0),  divided by its mean over the tasks
        the w_t minimise  sum_t |G_t - mean(G) * rate_t^alpha|,

    the term after the minus sign held constant, by steps of their own learning rate;
    after each they are scaled to sum to the number of tasks (and kept above 0.001).
    Chen et al. 2018 (arXiv:1711.02257, eq. 1 and 2, algorithm 1). loss_t(0) is
    that of the first update in which it is not 0. The loss and G are those of the
    whole batch, over all replicas and accumulated batches.

    Args:
        tasks: see `TaskBalancing`.
        alpha: how much harder a task that learns more slowly pulls; at least 0.
        learning_rate: of the w_t, which start from 1; a number above 0 or a schedule.
        shared: W. "last": the backbone's last matrix that all tasks' losses reach, as
            in the paper; each task then costs a pass back through its tower.
            "backbone": all such matrices, for a backbone whose last layer is several
            side by side (mask blocks, experts); a pass through the backbone, too.

    >>> from recap_tf.losses.grad_norm import GradNorm
    >>> balancing = GradNorm(["click", "like"], alpha=1.5)
    >>> balancing.learned()  # before the first update
    {'click': 1.0, 'like': 1.0}
    """

    by_gradient = True

    def __init__(
        self,
        tasks: Sequence[str],
        alpha: float = 1.5,
        learning_rate: float | Schedule = 0.025,
        shared: Literal["last", "backbone"] = "last",
    ):
        super().__init__(tasks)
        check_range("GradNorm.alpha", alpha, at_least=0)
        check_choice("GradNorm.shared", shared, ["last", "backbone"])
        self.alpha = alpha
        self.learning_rate = checked_learning_rate("GradNorm", learning_rate)
        self.shared = shared
        self.task_weights = tf.Variable(
            tf.ones([len(tasks)]),
            name="task_weights",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )
        self.initial_losses = tf.Variable(
            tf.zeros([len(tasks)]),
            trainable=False,
            name="initial_losses",
            aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
        )

    def weights(self):
        return tf.stop_gradient(tf.identity(self.task_weights))

    def gradients(self, loss, weights, backbone):
        return {
            "plain": loss.tape.gradient(loss.total, weights),
            "shared": self._shared_gradients(loss, backbone),
            "losses": loss.by_task,
        }

    def _shared_gradients(self, loss: BatchLoss, backbone) -> list[list]:
        """The gradients over W of every task's unweighted loss."""
        matrices = [weight for weight in backbone if len(weight.shape) >= 2]
        # Taken one by one from the end; "last" seldom needs a second.
        groups = [matrices]
        if self.shared == "last":
            groups = [[matrix] for matrix in reversed(matrices)]
        logit_gradients = loss.logit_gradients()
        for group in groups:
            by_task = [
                loss.tape.gradient(logit, group, output_gradients=gradient)
                for logit, gradient in zip(
                    loss.task_logits, logit_gradients, strict=True
                )
            ]
            reached = [
                all(gradient is not None for gradient in of_matrix)
                for of_matrix in zip(*by_task, strict=True)
            ]
            if any(reached):
                return [
                    list(itertools.compress(of_task, reached)) for of_task in by_task
                ]
        raise ValueError(
            "GradNorm found no matrix in RankingModel.backbone that the losses of all "
            "tasks depend on."
        )

    def combine(self, gradients, weights, seed):
        norms = tf.stack(
            [
                tf.sqrt(tf.add_n([squared_norm(gradient) for gradient in of_task]))
                for of_task in gradients["shared"]
            ]
        )
        pull = self._gradient_of_task_weights(norms, gradients["losses"])
        return [
            pull if weight is self.task_weights else plain
            for weight, plain in zip(weights, gradients["plain"], strict=True)
        ]

    def _gradient_of_task_weights(
        self, norms: tf.Tensor, losses: tf.Tensor
    ) -> tf.Tensor:
        """The gradient of the w_t from the norms of unweighted ones; all (tasks,)."""
        initial = tf.identity(self.initial_losses)
        initial = tf.where(initial > 0, initial, losses)
        self.initial_losses.assign(initial)
        ratios = tf.math.divide_no_nan(losses, initial)
        rates = tf.math.divide_no_nan(ratios, tf.reduce_mean(ratios))
        weighted = tf.identity(self.task_weights) * norms
        wanted = tf.reduce_mean(weighted) * tf.pow(rates, self.alpha)
        return tf.sign(weighted - wanted) * norms

    def after_update(self):
        weights = tf.maximum(tf.identity(self.task_weights), _SMALLEST)
        self.task_weights.assign(weights * len(self.tasks) / tf.reduce_sum(weights))
