"""How a data set was sampled for each task, and how that is undone."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

SamplingRates = Mapping[str, tuple[float, float]]
"""Task -> (share of its positives, share of its negatives) that a data set kept."""


def check_rates(setting: str, rates: SamplingRates) -> None:
    """Raises ValueError unless every rate is in (0, 1]."""
    for task, pair in rates.items():
        if len(pair) != 2 or not all(0.0 < rate <= 1.0 for rate in pair):
            raise ValueError(
                f"{setting}[{task!r}] must be two shares in (0, 1], of positives and "
                f"of negatives. Received: {pair}"
            )


def sampling_weights(
    labels: tf.Tensor, tasks: Sequence[str], rates: SamplingRates
) -> tf.Tensor:
    """How many examples of the original traffic each example stands for.

        weight = label / positives kept + (1 - label) / negatives kept

    >>> sampling_weights([[1], [0]], ["like"], {"like": (1.0, 0.25)}).numpy().tolist()
    [[1.0], [4.0]]

    Args:
        labels: (batch, tasks), 0 or 1.
        tasks: names of the columns.
        rates: a task that is not listed was not sampled.

    Returns:
        (batch, tasks) float32.
    """
    pairs = np.array([rates.get(task, (1.0, 1.0)) for task in tasks], np.float32)
    labels = tf.cast(labels, tf.float32)
    return labels / pairs[:, 0] + (1.0 - labels) / pairs[:, 1]


def sampling_ratios(tasks: Sequence[str], rates: SamplingRates) -> dict[str, float]:
    """Task -> share of negatives / share of positives, the r of `undo_sampling`.

    >>> sampling_ratios(["like", "reply"], {"like": (1.0, 0.25)})
    {'like': 0.25, 'reply': 1.0}
    """
    pairs = {task: rates.get(task, (1.0, 1.0)) for task in tasks}
    return {task: negative / positive for task, (positive, negative) in pairs.items()}


def undo_sampling(probability: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
    """The probability in the original traffic of what a sampled data set predicts.

        p * r / (1 - p + r * p)

    Dropping negatives multiplies the odds p / (1 - p) by 1 / r; this undoes it.

    >>> from recap_tf.data.sampling import undo_sampling
    >>> undo_sampling(0.5, ratio=0.25)  # One negative in four is there: 1 : 4 in all.
    0.2

    Args:
        probability: (batch, tasks), of a model that was trained on the sampled set.
        ratio: (tasks,), see `sampling_ratios`.
    """
    return probability * ratio / (1.0 - probability + ratio * probability)


def unsampled_log_odds(logit: tf.Tensor, ratio: tf.Tensor) -> tf.Tensor:
    """log(p / (1 - p)) of `undo_sampling(sigmoid(logit), ratio)`: logit + log(ratio).

    Exact where the probability itself is 0 or 1 in float32.

    Args:
        logit: (batch, tasks).
        ratio: (tasks,), see `sampling_ratios`.
    """
    return logit + tf.math.log(ratio)
