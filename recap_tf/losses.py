"""The training loss: one number from all tasks' logits and labels."""

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import gin
import tensorflow as tf


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


@gin.register
class MultiTaskLoss:
    """Weighted binary cross-entropy per task, then one reduction over the tasks.

        loss_t = mean_i w_it * (pos_weight_t * y * softplus(-x) + (1 - y) * softplus(x))
        loss   = reduction(loss_1, ..., loss_T)

    The mean divides by the batch size, not by the sum of the weights.

    Args:
        reduction: over the tasks.
        task_reduction: over the batch.
        pos_weights: task -> factor on its positives; 1 where not listed.
    """

    def __init__(
        self,
        reduction: Literal["mean", "sum", "min", "max", "median"] = "mean",
        task_reduction: Literal["mean", "sum"] = "mean",
        pos_weights: Mapping[str, float] = {},
    ):
        for setting, value, known in (
            ("reduction", reduction, _REDUCTIONS),
            ("task_reduction", task_reduction, ("mean", "sum")),
        ):
            if value not in known:
                raise ValueError(
                    f"MultiTaskLoss.{setting} must be one of {list(known)}. "
                    f"Received: {value!r}"
                )
        self.reduction = reduction
        self.task_reduction = task_reduction
        self.pos_weights = dict(pos_weights)

    def __call__(
        self,
        tasks: Sequence[str],
        labels: tf.Tensor,
        logits: tf.Tensor,
        weights: tf.Tensor | None = None,
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """The loss of one batch.

        Args:
            tasks: the columns' names.
            labels, logits, weights: (batch, tasks); no weights count as ones.

        Returns:
            The loss, a scalar, and the tasks' losses, (tasks,).
        """
        pos_weights = [self.pos_weights.get(task, 1.0) for task in tasks]
        entropy = tf.nn.weighted_cross_entropy_with_logits(
            tf.cast(labels, tf.float32),
            tf.cast(logits, tf.float32),
            tf.constant(pos_weights, tf.float32),
        )
        if weights is not None:
            entropy = entropy * tf.cast(weights, tf.float32)
        task_losses = _REDUCTIONS[self.task_reduction](entropy, axis=0)
        return _REDUCTIONS[self.reduction](task_losses), task_losses
