"""Keras's private names, and those of tensorflow-recommenders: all in this one file.

Custom optimizers have to make their state early, to read their learning rate as it was
given, and to be joined later, for none of which there is a public way.
`tests/test_private_names.py` lists every private name in use with what needs it.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

Optimizer = keras.optimizers.legacy.Optimizer


def set_learning_rate(optimizer: Optimizer, learning_rate: Any) -> None:
    """Declares the learning rate, a number or a schedule, of an optimizer of our own.

    Once; from then on it is `optimizer.learning_rate`. Keras's own decay is none.
    """
    optimizer._set_hyper("learning_rate", learning_rate)
    optimizer._set_hyper("decay", 0.0)


def given_learning_rate(optimizer: Optimizer) -> Any:
    """The learning rate as it was given: `optimizer.learning_rate` would make a
    variable of a number."""
    return optimizer._hyper["learning_rate"]


def learning_rate_config(optimizer: Optimizer) -> Any:
    """The learning rate as `get_config` stores it."""
    return optimizer._serialize_hyperparameter("learning_rate")


def update_numbers(
    optimizer: Optimizer, variable: tf.Variable, prepared: Mapping | None
) -> Mapping[str, tf.Tensor]:
    """An update's numbers, "lr_t" among them, on the device and in the type of
    `variable`.

    Args:
        optimizer: that updates.
        variable: that is updated.
        prepared: what Keras hands to the update as `apply_state`.
    """
    key = (variable.device, variable.dtype.base_dtype)
    return (prepared or {}).get(key) or optimizer._fallback_apply_state(*key)


def create_state(optimizer: Optimizer, weights: Sequence[tf.Variable]) -> None:
    """Makes all state of an optimizer of `weights` now, not at its first update."""
    optimizer._create_all_weights(weights)


def join(
    composite: tfrs.experimental.optimizers.CompositeOptimizer,
    optimizer: Optimizer,
    weights: Callable[[], Sequence[tf.Variable]],
) -> None:
    """Adds an optimizer to those of `composite`; checkpoints number them in turn."""
    number = len(composite._optimizers_and_vars)
    composite._track_trackable(optimizer, name=f"Optimizer{number}")
    composite._optimizers_and_vars.append((optimizer, weights))
