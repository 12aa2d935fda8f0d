"""How the tasks' losses share the weights that they all train.

A balancing takes part in the training step three times: `weights` and `penalties` go
into the loss of a batch; `gradients` is asked of every batch; `combine` makes of their
sum over batches and replicas the gradient of the update. `TaskBalancing` itself
changes nothing; those that do are in `uncertainty_weighting`, `grad_norm` and `pcgrad`.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import tensorflow as tf

from recap_tf.core.checks import check_range
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
        logits: (batch, tasks), as the model gave them.
        task_logits: the columns of `logits`, each by itself; (batch, 1). A gradient
            of one column does not pass through the other tasks' towers.
    """

    tape: tf.GradientTape
    total: tf.Tensor
    rest: tf.Tensor
    by_task: tf.Tensor
    logits: tf.Tensor
    task_logits: Sequence[tf.Tensor]

    def logit_gradients(self) -> list[tf.Tensor]:
        """The gradient of each task's loss with respect to its logits, (batch, 1)."""
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
    """The learning rate of its own variables, for a balancing that has some."""

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
        variables = list(self.trainable_variables)
        if not variables:
            return {}
        return {"task_balancing": (Adam(self.learning_rate), variables)}

    def weights(self) -> tf.Tensor | None:
        """The factors on the tasks' losses, (tasks,); None for ones."""
        return None

    def learned(self) -> dict[str, float]:
        """Task -> its present weight, where there are any."""
        weights = self.weights()
        if weights is None:
            return {}
        return dict(zip(self.tasks, weights.numpy().tolist(), strict=True))

    def penalties(self) -> tf.Tensor | None:
        """What is added for the weights to the tasks' losses, (tasks,); None for 0."""
        return None

    def gradients(
        self,
        loss: BatchLoss,
        weights: Sequence[tf.Variable],
        backbone: Sequence[tf.Variable],
    ) -> Any:
        """What `combine` needs of one batch, to be summed over batches and replicas.

        Args:
            loss: the batch's share in the loss of the update.
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
            weights: those that it was asked for.
            seed: (2,) integers, another for every step and the same on all replicas.
        """
        return list(gradients)

    def after_update(self) -> None:
        """Brings its own variables in order, after the optimizer has changed them."""


def checked_learning_rate(owner: str, rate: float | Schedule) -> float | Schedule:
    """The rate itself; raises ValueError if it is a number that is not positive."""
    if not isinstance(rate, Schedule):
        check_range(f"{owner}.learning_rate", rate, above=0)
    return rate
