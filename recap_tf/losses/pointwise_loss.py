"""What the losses of a label by itself share: tasks' settings, label smoothing."""

import dataclasses
from collections.abc import Mapping, Sequence

import tensorflow as tf

from recap_tf.core.checks import check_range

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
        self._check("label_smoothing", at_least=0, below=1)

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
            labels, logits: (batch, tasks) float32; labels in [0, 1].
            pos_weights: (tasks,), the positive weights: factors on the positives' part.

        Returns:
            (batch, tasks) float32.
        """
        if self.label_smoothing:
            smoothing = per_task(self.label_smoothing, tasks, missing=0.0)
            labels = labels * (1.0 - smoothing) + smoothing / 2.0
        return self.losses(tasks, labels, logits, pos_weights)

    def losses(self, tasks, labels, logits, pos_weights) -> tf.Tensor:
        """The losses as of `__call__`, of labels anywhere between 0 and 1."""
        raise NotImplementedError("A pointwise loss defines losses().")

    def named_tasks(self) -> dict[str, list[str]]:
        """Setting -> the tasks that are named in it."""
        owner = type(self).__name__
        return {
            f"{owner}.{field.name}": list(value)
            for field in dataclasses.fields(self)
            if isinstance(value := getattr(self, field.name), Mapping)
        }

    def _check(self, name: str, **bounds: float) -> None:
        """Raises ValueError unless the setting's numbers are within `bounds`."""
        setting = getattr(self, name)
        values = setting if isinstance(setting, Mapping) else {None: setting}
        for task, value in values.items():
            where = "" if task is None else f"[{task!r}]"
            check_range(f"{type(self).__name__}.{name}{where}", value, **bounds)
