"""Adam with the reference's epsilon, and one optimizer per group of weights."""

from collections.abc import Callable, Mapping, Sequence

import gin
import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from recap_tf.core import keras_privates
from recap_tf.core.optimizers.learning_rate_schedules import (
    ConstantLearningRate,
    Schedule,
)
from recap_tf.core.storage.huge_pages import use_huge_pages

# Keras's *legacy* optimizers throughout: their fused kernels read and write each
# weight once per step, and tensorflow-recommenders' CompositeOptimizer and
# PartialTPUEmbedding take no others.
Optimizer = keras.optimizers.legacy.Optimizer


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class Adam(keras.optimizers.legacy.Adam):
    """Adam as in algorithm 1 of Kingma & Ba (arXiv:1412.6980).

        w -= lr * (m / (1 - beta_1^t)) / (sqrt(v / (1 - beta_2^t)) + epsilon)

    t counts from 1. Keras adds epsilon before the bias correction instead, which
    makes it up to 1 / sqrt(1 - beta_2) times larger in the first steps.

    Args:
        learning_rate: a number or a schedule.
        beta_1, beta_2: decay of the first and second moment per step, in [0, 1).
        epsilon: added to the root of the corrected second moment.
    """

    def __init__(
        self,
        learning_rate: float | Schedule = 1e-3,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-7,
        name: str = "Adam",
    ):
        super().__init__(learning_rate, beta_1, beta_2, epsilon, name=name)
        # Python numbers: 1 - beta^t in float32 loses five digits at beta_2 = 0.999.
        self._exact_betas = (beta_1, beta_2)

    def get_config(self):
        settings = super().get_config()
        names = ("learning_rate", "beta_1", "beta_2", "epsilon", "name")
        return {name: settings[name] for name in names}

    def _prepare_local(self, var_device, var_dtype, apply_state):
        super()._prepare_local(var_device, var_dtype, apply_state)
        coefficients = apply_state[(var_device, var_dtype)]
        t = tf.cast(self.iterations + 1, tf.float64)
        beta_1, beta_2 = self._exact_betas
        root = tf.sqrt(1.0 - tf.pow(tf.constant(beta_2, tf.float64), t))
        correction = root / (1.0 - tf.pow(tf.constant(beta_1, tf.float64), t))
        rate = coefficients["lr_t"] * tf.cast(correction, var_dtype)
        zero = tf.zeros([], var_dtype)
        # Multiplying the update's numerator and denominator by `root` turns the
        # formula above into Keras's with this rate and epsilon. The fused kernel would
        # correct the rate once more: powers of 0 stop it.
        coefficients.update(
            lr=rate,
            lr_t=rate,
            beta_1_power=zero,
            beta_2_power=zero,
            epsilon=tf.cast(self.epsilon * root, var_dtype),
        )


class GroupedOptimizer(tfrs.experimental.optimizers.CompositeOptimizer):
    """One optimizer per group of weights.

    Args:
        groups: group name -> (its optimizer, its weights). The order is that of the
            optimizers in checkpoints.

    >>> import tensorflow as tf
    >>> from recap_tf.core.optimizers.grouped import Adam, GroupedOptimizer
    >>> from recap_tf.core.optimizers.sparse_sgd import SparseSGD
    >>> weight, table = tf.Variable([1.0]), tf.Variable(tf.ones([4, 2]))
    >>> optimizer = GroupedOptimizer(
    ...     {"backbone": (Adam(0.25), [weight]), "table": (SparseSGD(0.5), [table])}
    ... )
    >>> optimizer.learning_rates(step=0)
    {'backbone': 0.25, 'table': 0.5}
    """

    def __init__(
        self, groups: Mapping[str, tuple[Optimizer, Sequence[tf.Variable]]], **kwargs
    ):
        super().__init__(
            [
                (_with_schedule(optimizer), _constant(weights))
                for optimizer, weights in groups.values()
            ],
            **kwargs,
        )
        self._weights_of = {name: weights for name, (_, weights) in groups.items()}

    def add_groups(
        self, groups: Mapping[str, tuple[Optimizer, Sequence[tf.Variable]]]
    ) -> None:
        """Takes on further groups of weights, each with an optimizer of its own."""
        for name, (optimizer, weights) in groups.items():
            keras_privates.join(self, _with_schedule(optimizer), _constant(weights))
            self._weights_of[name] = weights

    def create_slots(self) -> None:
        """Makes the optimizers' state now, so that a checkpoint can be restored into
        it."""
        groups = zip(self.optimizers, self._weights_of.values(), strict=True)
        for optimizer, weights in groups:
            keras_privates.create_state(optimizer, weights)
            for state in optimizer.variables():
                use_huge_pages(state)

    def learning_rates(self, step: int) -> dict[str, float]:
        """The groups' learning rates: name -> that of the update of `step`."""
        rates = {}
        for name, optimizer in zip(self._weights_of, self.optimizers, strict=True):
            rate = optimizer.learning_rate
            value = rate(step) if isinstance(rate, Schedule) else rate
            rates[name] = float(tf.convert_to_tensor(value))
        return rates


@gin.register
def grouped_optimizer(
    groups: Mapping[str, Sequence[tf.Variable]],
    learning_rates: Mapping[str, Schedule] | Schedule | float,
    optimizer: Callable[..., Optimizer] = Adam,
) -> GroupedOptimizer:
    """Makes one optimizer per group of weights, each with its own learning rate.

    Args:
        groups: group name -> its trainable weights; every weight in one group.
        learning_rates: group name -> schedule, or one schedule or number for all.
        optimizer: makes an optimizer from `learning_rate`.

    Raises:
        ValueError: a group without a learning rate, a learning rate without a group
            or for a group without weights, or a weight in two groups.
    """
    if isinstance(learning_rates, Mapping):
        _check_rates(groups, learning_rates)
    owner: dict[str, str] = {}
    for name, weights in groups.items():
        for weight in weights:
            first = owner.setdefault(weight.ref(), name)
            if first != name:
                raise ValueError(
                    f"Weight {weight.name} falls in two groups, {first!r} and {name!r}."
                )
    optimizers = {}
    for name, weights in groups.items():
        rate = learning_rates
        if isinstance(rate, Mapping):
            rate = rate.get(name)
        if weights:
            optimizers[name] = (optimizer(learning_rate=rate), weights)
    return GroupedOptimizer(optimizers)


def _check_rates(groups, learning_rates) -> None:
    for name in learning_rates:
        if not groups.get(name):
            raise ValueError(
                f"grouped_optimizer.learning_rates names {name!r}, which matches "
                f"no weight. Groups of this model: {sorted(groups)}."
            )
    for name, weights in groups.items():
        if weights and name not in learning_rates:
            raise ValueError(
                f"grouped_optimizer.learning_rates has no entry for {name!r}, "
                f"which holds {len(weights)} weights, e.g. {weights[0].name}."
            )


def _with_schedule(optimizer: Optimizer) -> Optimizer:
    """Turns a number for the optimizer's learning rate into a schedule.

    Keras makes a variable of a number, and so a checkpoint would bring the old rate
    back into a run that was told another one.
    """
    rate = keras_privates.given_learning_rate(optimizer)
    if isinstance(rate, (int, float)):
        optimizer.learning_rate = ConstantLearningRate(float(rate))
    return optimizer


def _constant(weights: Sequence[tf.Variable]) -> Callable[[], list[tf.Variable]]:
    return lambda: list(weights)
