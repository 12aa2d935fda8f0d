"""How the tasks' losses share the weights that they all train.

A balancing takes part in the training step three times: `weights` and `penalties` go
into the loss of a batch; `gradients` is asked of every batch; `combine` makes of their
sum over batches and replicas the gradient of the update. `TaskBalancing` itself
changes nothing; grad_norm and pcgrad hold the ones that look at gradients.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import gin
import tensorflow as tf

from recap_tf.core.optimizers.grouped import Adam, Optimizer
from recap_tf.core.optimizers.learning_rate_schedules import Schedule
from recap_tf.losses.gradient_arithmetic import Gradient
from recap_tf.model.ranking_model import RankingModel


@dataclasses.dataclass(frozen=True)
class BatchLoss:
    """One batch's loss, with what its gradients can be taken of.

    All of it is scaled such that the sum over accumulated batches and replicas is the
    loss of one update.

    Args:
        tape: recorded what follows; persistent if the balancing is `by_gradient`.
        total: a scalar, what is minimised.
        rest: the part of `total` that belongs to no task; regularization.
        by_task: (tasks,), each task's part of `total` before it is balanced.
        logits: (batch, tasks).
        task_logits: the columns of `logits`, each on its own; (batch, 1). A gradient
            of one does not pass through the other tasks' towers.
    """

    tape: tf.GradientTape
    total: tf.Tensor
    rest: tf.Tensor
    by_task: tf.Tensor
    logits: tf.Tensor
    task_logits: Sequence[tf.Tensor]

    def logit_gradients(self) -> list[tf.Tensor]:
        """Of each task's loss with respect to its logits, (batch, 1)."""
        # A task's loss depends on its own column alone, so the gradient of their sum
        # holds them all.
        gradient = self.tape.gradient(self.by_task, self.logits)
        return tf.split(gradient, len(self.task_logits), axis=1)


class TaskBalancing(tf.Module):
    """Leaves the tasks' losses as they are.

    Args:
        tasks: their names, in the order of the model's outputs.
    """

    by_gradient = False
    """Whether it needs the gradient of every task by itself."""
    learning_rate: float | Schedule | None = None
    """Of its own variables, for those that have some."""

    def __init__(self, tasks: Sequence[str]):
        super().__init__()
        self.tasks = tuple(tasks)

    def check_model(self, model: RankingModel) -> None:
        """Raises ValueError if it cannot balance what `model` shares."""
        if self.by_gradient and model.backbone is None:
            name = type(self).__name__
            raise ValueError(
                f"{name} balances the weights that tasks share, so it needs "
                "RankingModel.sharing = 'share_all' or 'share_partial'. "
                f"Received: {model.sharing!r}"
            )

    def optimizers(self) -> dict[str, tuple[Optimizer, list[tf.Variable]]]:
        """The optimizer's group of its own variables, if it has some."""
        own = list(self.trainable_variables)
        return {"task_balancing": (Adam(self.learning_rate), own)} if own else {}

    def weights(self) -> tf.Tensor | None:
        """(tasks,) factors on the tasks' losses; none for ones."""
        return None

    def learned(self) -> dict[str, float]:
        """Task -> its present weight, where there are any."""
        weights = self.weights()
        if weights is None:
            return {}
        return dict(zip(self.tasks, weights.numpy().tolist(), strict=True))

    def penalties(self) -> tf.Tensor | None:
        """(tasks,) what the weights cost; none for nothing."""
        return None

    def gradients(
        self,
        loss: BatchLoss,
        weights: Sequence[tf.Variable],
        backbone: Sequence[tf.Variable],
    ) -> Any:
        """What `combine` needs of one batch, to be summed over batches and replicas.

        Args:
            loss: of the batch.
            weights: all that is trained, the balancing's own among them.
            backbone: those of them in the model's backbone.

        Returns:
            A nested structure of gradients.
        """
        return loss.tape.gradient(loss.total, weights)

    def combine(
        self, gradients: Any, weights: Sequence[tf.Variable], seed: tf.Tensor
    ) -> list[Gradient]:
        """The update's gradients of `weights`.

        Args:
            gradients: the sum of what `gradients` gave.
            weights: as there.
            seed: (2,) integers, another for every step and the same on all replicas.
        """
        return list(gradients)

    def after_update(self) -> None:
        """Is called when the optimizer has changed the weights."""


@gin.register
class UncertaintyWeighting(TaskBalancing):
    """Weights each task's loss by a learned uncertainty of the task.

        loss = reduction_t(exp(-s_t) * loss_t + s_t / 2),   s_t = log(sigma_t^2)

    The form for classification of Kendall, Gal & Cipolla 2018 (arXiv:1705.07115, eq.
    10: loss / sigma^2 + log sigma). For a given loss_t the best s_t is log(2 loss_t):
    the weights go to 1 / (2 loss_t). The total can be negative.

    Args:
        tasks: see `TaskBalancing`.
        learning_rate: of the s_t, which start from 0; a number or a schedule.
    """

    def __init__(self, tasks: Sequence[str], learning_rate: float | Schedule = 0.01):
        super().__init__(tasks)
        self.learning_rate = positive_rate("UncertaintyWeighting", learning_rate)
        self.log_variances = tf.Variable(tf.zeros([len(tasks)]), name="log_variances")

    def weights(self):
        return tf.exp(-self.log_variances)

    def penalties(self):
        return self.log_variances / 2.0


def positive_rate(owner: str, rate: float | Schedule) -> float | Schedule:
    """`rate` itself; raises ValueError if it is a number that is not positive."""
    if not isinstance(rate, Schedule) and not rate > 0:
        raise ValueError(f"{owner}.learning_rate must be more than 0. Received: {rate}")
    return rate
