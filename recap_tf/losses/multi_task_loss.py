"""The training loss: one number from all tasks' logits and labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import gin
import tensorflow as tf

from recap_tf.core.checks import check_choice, check_range
from recap_tf.data.tasks import check_known
from recap_tf.losses.pairwise_loss import PairwiseLogistic
from recap_tf.losses.pointwise_loss import PointwiseLoss, per_task
from recap_tf.losses.task_balancing import TaskBalancing
from recap_tf.losses.weighted_cross_entropy import CrossEntropy
from recap_tf.model.ranking_model import RankingModel


def _median(losses: tf.Tensor) -> tf.Tensor:
    """The middle value, the lower one of two; ties share the gradient evenly."""
    middle = tf.sort(losses)[(tf.size(losses) - 1) // 2]
    chosen = tf.cast(tf.equal(losses, tf.stop_gradient(middle)), losses.dtype)
    return tf.reduce_sum(losses * chosen) / tf.reduce_sum(chosen)


_REDUCTIONS: Mapping[str, Callable[[tf.Tensor], tf.Tensor]] = {
    "mean": tf.reduce_mean,
    "sum": tf.reduce_sum,
    "min": tf.reduce_min,
    "max": tf.reduce_max,
    "median": _median,
}

_CROSS_ENTROPY = CrossEntropy()


@gin.register
class MultiTaskLoss:
    """A loss per task, then one reduction over the tasks.

        loss_t = reduce_i(w_it * pointwise(y_it, x_it)) + factor * pairwise_t
        loss   = reduction(c_1 * loss_1, ..., c_T * loss_T)

    over the examples i of a batch: x logits, y labels, w example weights, c task
    weights. The mean over the batch divides by its size, not by the sum of the weights.

    Args:
        reduction: over the tasks; one of mean, sum, min, max and median.
        task_reduction: over the batch; mean or sum.
        pos_weights: the positive weights: task -> factor on its positives in the
            pointwise loss, at least 0; 1 where not listed.
        task_weights: task -> c, at least 0; 1 where not listed.
        pointwise: loss of a label by itself; None for the pairwise loss alone.
        pairwise: loss of pairs of examples of a group; None for none.
        task_balancing: makes what balances the tasks in training, by `reduction`
            "mean" or "sum": `UncertaintyWeighting`, `GradNorm` or `PCGrad`.

    >>> from recap_tf.losses.multi_task_loss import MultiTaskLoss
    >>> loss = MultiTaskLoss(reduction="sum", pos_weights={"like": 10.0})
    >>> total, by_task = loss(["click", "like"], labels=[[1, 1]], logits=[[0.0, 0.0]])
    >>> round(float(total), 4)  # log 2 and 10 log 2
    7.6246
    """

    def __init__(
        self,
        reduction: Literal["mean", "sum", "min", "max", "median"] = "mean",
        task_reduction: Literal["mean", "sum"] = "mean",
        pos_weights: Mapping[str, float] = {},
        task_weights: Mapping[str, float] = {},
        pointwise: PointwiseLoss | None = _CROSS_ENTROPY,
        pairwise: PairwiseLogistic | None = None,
        task_balancing: Callable[..., TaskBalancing] | None = None,
    ):
        check_choice("MultiTaskLoss.reduction", reduction, _REDUCTIONS)
        check_choice("MultiTaskLoss.task_reduction", task_reduction, ["mean", "sum"])
        for setting, factors in (
            ("pos_weights", pos_weights),
            ("task_weights", task_weights),
        ):
            for task, factor in factors.items():
                check_range(f"MultiTaskLoss.{setting}[{task!r}]", factor, at_least=0)
        if pointwise is None and pairwise is None:
            raise ValueError("MultiTaskLoss needs pointwise, pairwise or both.")
        if task_balancing is not None and reduction not in ("mean", "sum"):
            raise ValueError(
                "MultiTaskLoss.reduction must be 'mean' or 'sum' with task_balancing. "
                f"Received: {reduction!r}"
            )
        self.reduction = reduction
        self.task_reduction = task_reduction
        self.pos_weights = dict(pos_weights)
        self.task_weights = dict(task_weights)
        self.pointwise = pointwise
        self.pairwise = pairwise
        self.task_balancing = task_balancing

    def __call__(
        self,
        tasks: Sequence[str],
        labels: tf.Tensor,
        logits: tf.Tensor,
        weights: tf.Tensor | None = None,
        features: Mapping[str, tf.Tensor] = {},
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of one batch, its tasks not balanced.

        Args:
            tasks: the columns' names.
            labels, logits, weights: (batch, tasks); no weights count as ones.
            features: name -> tensor; for the pairwise loss.

        Returns:
            The loss, a scalar, and the tasks' losses, (tasks,).
        """
        task_losses = self.task_losses(tasks, labels, logits, weights, features)
        return self.reduce(self.weighted(tasks, task_losses)), task_losses

    def task_losses(
        self,
        tasks: Sequence[str],
        labels: tf.Tensor,
        logits: tf.Tensor,
        weights: tf.Tensor | None = None,
        features: Mapping[str, tf.Tensor] = {},
    ) -> tf.Tensor:
        """The tasks' loss_t of the class docstring, (tasks,); called as the loss is."""
        labels, logits = tf.cast(labels, tf.float32), tf.cast(logits, tf.float32)
        weights = _ones_or(weights, labels)
        losses = tf.zeros([len(tasks)])
        if self.pointwise is not None:
            pos_weights = per_task(self.pos_weights, tasks, missing=1.0)
            each = self.pointwise(tasks, labels, logits, pos_weights) * weights
            losses += _REDUCTIONS[self.task_reduction](each, axis=0)
        if self.pairwise is not None:
            mean = self.task_reduction == "mean"
            losses += self.pairwise.factor * self.pairwise(
                labels, logits, weights, features, mean
            )
        return losses

    def count_pairs(
        self,
        labels: tf.Tensor,
        weights: tf.Tensor | None,
        features: Mapping[str, tf.Tensor],
    ) -> tf.Tensor:
        """How many pairs the pairwise loss of each task sees, (tasks,)."""
        labels = tf.cast(labels, tf.float32)
        return self.pairwise.count_pairs(labels, _ones_or(weights, labels), features)

    def weighted(self, tasks: Sequence[str], task_losses: tf.Tensor) -> tf.Tensor:
        """The tasks' losses times their task weights."""
        return task_losses * per_task(self.task_weights, tasks, missing=1.0)

    def reduce(self, losses: tf.Tensor) -> tf.Tensor:
        """The losses (tasks,) reduced over the tasks to a scalar."""
        return _REDUCTIONS[self.reduction](losses)

    def addends(self, losses: tf.Tensor) -> tf.Tensor:
        """The addends (tasks,) whose sum is the mean or sum of the losses (tasks,)."""
        return losses / losses.shape[0] if self.reduction == "mean" else losses

    def balancing(self, model: RankingModel) -> TaskBalancing:
        """What balances the tasks of `model`, with its own variables.

        Raises:
            ValueError: it does not fit the model.
        """
        make = self.task_balancing or TaskBalancing
        balancing = make(tasks=model.tasks)
        balancing.check_model(model)
        return balancing

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises ValueError if a setting names a task that is not in `tasks`."""
        named = {
            "MultiTaskLoss.pos_weights": self.pos_weights,
            "MultiTaskLoss.task_weights": self.task_weights,
        }
        if self.pointwise is not None:
            named |= self.pointwise.named_tasks()
        for setting, names in named.items():
            check_known(setting, names, tasks)

    def check_features(self, specs: Mapping[str, tf.TensorSpec]) -> None:
        """Raises ValueError if features of these specs lack what the loss reads."""
        if self.pairwise is not None:
            self.pairwise.check_features(specs)


def _ones_or(weights: tf.Tensor | None, labels: tf.Tensor) -> tf.Tensor:
    return tf.ones_like(labels) if weights is None else tf.cast(weights, tf.float32)
