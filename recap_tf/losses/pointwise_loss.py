"""Losses of one label by itself: cross-entropy and focal loss."""

import dataclasses
from collections.abc import Mapping, Sequence

import gin
import tensorflow as tf

PerTask = float | Mapping[str, float]
"""One number for all tasks, or task -> number."""


def per_task(setting: PerTask, tasks: Sequence[str], missing: float) -> tf.Tensor:
    """The setting's numbers in the order of `tasks`, (tasks,) float32."""
    if not isinstance(setting, Mapping):
        setting = dict.fromkeys(tasks, setting)
    return tf.constant([setting.get(task, missing) for task in tasks], tf.float32)


@dataclasses.dataclass(frozen=True, kw_only=True)
class PointwiseLoss:
    """Label and logit -> loss, for every example and task.

    Args:
        label_smoothing: s of y' = y * (1 - s) + s / 2, in [0, 1); a number for all
            tasks, or task -> number, 0 where not listed. Szegedy et al. 2016
            (arXiv:1512.00567, section 7), for two classes.
    """

    label_smoothing: PerTask = 0.0

    def __post_init__(self):
        self._check("label_smoothing", lambda value: 0 <= value < 1, "in [0, 1)")

    def __call__(
        self,
        tasks: Sequence[str],
        labels: tf.Tensor,
        logits: tf.Tensor,
        pos_weights: tf.Tensor,
    ) -> tf.Tensor:
        """The losses of a batch.

        Args:
            tasks: the columns' names.
            labels, logits: (batch, tasks) float32.
            pos_weights: (tasks,), factors on the positives' part.

        Returns:
            (batch, tasks) float32.
        """
        if self.label_smoothing:
            smoothing = per_task(self.label_smoothing, tasks, missing=0.0)
            labels = labels * (1.0 - smoothing) + smoothing / 2.0
        return self.losses(tasks, labels, logits, pos_weights)

    def losses(self, tasks, labels, logits, pos_weights) -> tf.Tensor:
        """As `__call__`, of labels anywhere between 0 and 1."""
        raise NotImplementedError("A pointwise loss defines losses().")

    def named_tasks(self) -> dict[str, list[str]]:
        """Setting -> the tasks that it names."""
        owner = type(self).__name__
        return {
            f"{owner}.{field.name}": list(value)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Mapping)
        }

    def _check(self, name, holds, expected) -> None:
        setting = getattr(self, name)
        values = setting if isinstance(setting, Mapping) else {None: setting}
        for task, value in values.items():
            if not holds(value):
                where = "" if task is None else f"[{task!r}]"
                raise ValueError(
                    f"{type(self).__name__}.{name}{where} must be {expected}. "
                    f"Received: {value}"
                )


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class CrossEntropy(PointwiseLoss):
    """Binary cross-entropy of a logit x.

    loss = pos_weight * y * softplus(-x) + (1 - y) * softplus(x)
    """

    def losses(self, tasks, labels, logits, pos_weights):
        return tf.nn.weighted_cross_entropy_with_logits(labels, logits, pos_weights)


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class FocalLoss(PointwiseLoss):
    """Cross-entropy that makes light of what the model is already sure of.

        loss = a * pos_weight * y * (1 - p)^gamma * softplus(-x)
             + b * (1 - y) * p^gamma * softplus(x),   p = sigmoid(x)

    with a = alpha, b = 1 - alpha, or a = b = 1 without alpha. Lin et al. 2017
    (arXiv:1708.02002, eq. 4 and 5). Its probabilities are not calibrated: they are
    drawn towards one half.

    Args:
        gamma: at least 0; 0 gives cross-entropy. A number for all tasks, or task ->
            number, 0 where not listed.
        alpha: weight of the positives, in (0, 1), that of the negatives being the
            rest to 1. None for none; a number, or task -> number, none where not
            listed.
    """

    gamma: PerTask = 2.0
    alpha: PerTask | None = None

    def __post_init__(self):
        super().__post_init__()
        self._check("gamma", lambda value: value >= 0, "at least 0")
        if self.alpha is not None:
            self._check("alpha", lambda value: 0 < value < 1, "in (0, 1)")

    def losses(self, tasks, labels, logits, pos_weights):
        gamma = per_task(self.gamma, tasks, missing=0.0)
        # log p and log (1 - p) with their signs turned; powers of p come from them
        # because the gradient of p^gamma is not finite at p = 0.
        positive, negative = tf.nn.softplus(-logits), tf.nn.softplus(logits)
        of_positives = pos_weights * labels * tf.exp(-gamma * negative) * positive
        of_negatives = (1.0 - labels) * tf.exp(-gamma * positive) * negative
        if self.alpha is not None:
            alpha = per_task(self.alpha, tasks, missing=-1.0)
            none = alpha < 0
            of_positives *= tf.where(none, 1.0, alpha)
            of_negatives *= tf.where(none, 1.0, 1.0 - alpha)
        return of_positives + of_negatives
