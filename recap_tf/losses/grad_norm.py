"""GradNorm: tasks pull equally hard at what they share, harder if they lag behind."""

from collections.abc import Sequence
from typing import Literal

import gin
import tensorflow as tf

from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.losses import gradient_arithmetic
from recap_tf.losses.task_balancing import BatchLoss, TaskBalancing, positive_rate

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
        learning_rate: of the w_t, which start from 1; a number or a schedule.
        shared: W. "last": the backbone's last matrix that all tasks' losses reach, as
            in the paper; each task then costs a pass back through its tower.
            "backbone": all such matrices, for a backbone whose last layer is several
            side by side (mask blocks, experts); a pass through the backbone, too.
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
        if alpha < 0:
            raise ValueError(f"GradNorm.alpha must be at least 0. Received: {alpha}")
        if shared not in ("last", "backbone"):
            raise ValueError(
                f"GradNorm.shared must be 'last' or 'backbone'. Received: {shared!r}"
            )
        self.alpha = alpha
        self.learning_rate = positive_rate("GradNorm", learning_rate)
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
        """For every task the gradients of its unweighted loss over W."""
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
                all(one is not None for one in column)
                for column in zip(*by_task, strict=True)
            ]
            if any(reached):
                return [
                    [one for one, all_ in zip(row, reached, strict=True) if all_]
                    for row in by_task
                ]
        raise ValueError(
            "GradNorm found no matrix in RankingModel.backbone that the losses of all "
            "tasks depend on."
        )

    def combine(self, gradients, weights, seed):
        norms = tf.stack(
            [
                tf.sqrt(
                    tf.add_n([gradient_arithmetic.squared_norm(one) for one in task])
                )
                for task in gradients["shared"]
            ]
        )
        own = self._own_gradient(norms, gradients["losses"])
        return [
            own if weight is self.task_weights else plain
            for weight, plain in zip(weights, gradients["plain"], strict=True)
        ]

    def _own_gradient(self, norms: tf.Tensor, losses: tf.Tensor) -> tf.Tensor:
        """Of the w_t, from the norms of the unweighted gradients; all (tasks,)."""
        initial = tf.identity(self.initial_losses)
        initial = tf.where(initial > 0, initial, losses)
        self.initial_losses.assign(initial)
        ratios = tf.math.divide_no_nan(losses, initial)
        rates = tf.math.divide_no_nan(ratios, tf.reduce_mean(ratios))
        weighted = tf.identity(self.task_weights) * norms
        wanted = tf.reduce_mean(weighted) * tf.pow(rates, self.alpha)
        return tf.sign(weighted - wanted) * norms

    def after_update(self):
        kept = tf.maximum(tf.identity(self.task_weights), _SMALLEST)
        self.task_weights.assign(kept * len(self.tasks) / tf.reduce_sum(kept))
