"""The optional steps between parsing a batch and training on it.

A step is `batch -> batch`; steps always run in this order, whatever the order in the
config:

    downsampling   DownsampleNegatives
    feature_steps  TruncateAndSlice, DownCast
    late_labels    RectifyLabels
    feature_steps  ExtractFeatures

A batch is (features, labels, weights): name -> (batch, ...) tensor, (batch, tasks)
integers, (batch, tasks) float32. A step that belongs to serving too is also
`features -> features`, under the name `serve`.
"""

from collections.abc import Iterable, Sequence

import tensorflow as tf

Features = dict[str, tf.Tensor]
Batch = tuple[Features, tf.Tensor, tf.Tensor]


class Step:
    """One preprocessing step.

    Attributes:
        order: steps run by ascending order.
        training_only: left out in evaluation, which sees every record once.
    """

    order: int
    training_only = False

    def __call__(self, batch: Batch, tasks: Sequence[str]) -> Batch:
        features, labels, weights = batch
        return self.serve(features), labels, weights

    def serve(self, features: Features) -> Features:
        """What the step does to features alone; nothing, unless overridden."""
        return features

    def label_features(self) -> dict[str, bool]:
        """Features that make labels, as times of engagements do -> whether every
        record should have one. They are read for the step, and are no input of a
        model that is served, where nobody knows them."""
        return {}

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises ValueError if the step names a task that is not in `tasks`."""


def in_order(steps: Sequence[Step]) -> list[Step]:
    """The steps as they run.

    Raises:
        ValueError: the same kind of step twice.
    """
    kinds = [type(step).__name__ for step in steps]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"Records.preprocess holds {kind} more than once.")
    return sorted(steps, key=lambda step: step.order)


def check_features(setting: str, named: Iterable[str], features: Features) -> None:
    """Raises ValueError if `setting` names a feature that is not read."""
    for name in named:
        if name not in features:
            raise ValueError(
                f"{setting} names the feature {name!r}, which is not read. "
                f"Features: {sorted(features)}."
            )
