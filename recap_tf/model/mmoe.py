"""Multi-gate mixture of experts: each task weighs shared experts for itself."""

from collections.abc import Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.fields import apply, as_fields
from recap_tf.model.layers import (
    LayerOrFactory,
    layer_config,
    layer_from_config,
    make_layer,
)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ExpertGate(keras.layers.Layer):
    """A gate: mixes experts by weights computed from a selector.

        weights = softmax(W selector)
        output  = sum_i weights_i * expert_i

    (Ma et al., KDD 2018, eq. 6 and 7). The softmax is float32 whatever the compute
    type. Call: [selector (batch, F), expert_1 (batch, U), ..., expert_n] -> (batch, U).

    Args:
        experts: n, how many come in a call.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mmoe import ExpertGate
    >>> gate = ExpertGate(experts=2)
    >>> gate([tf.ones([3, 4]), tf.zeros([3, 8]), tf.ones([3, 8])]).shape
    TensorShape([3, 8])
    """

    def __init__(self, experts: int, **kwargs):
        super().__init__(**kwargs)
        self.experts = experts
        self.score = keras.layers.Dense(experts, use_bias=False)

    def weights_of(self, selector: tf.Tensor) -> tf.Tensor:
        """The experts' weights: (batch, F) -> (batch, n), each row adding up to 1."""
        return tf.nn.softmax(tf.cast(self.score(selector), tf.float32))

    def call(self, inputs):
        selector, *experts = inputs
        weights = tf.cast(self.weights_of(selector), self.compute_dtype)
        shares = tf.split(weights, self.experts, axis=-1)
        # A batched product over stacked experts is no faster, and experts of towers
        # of their own would have to be copied into the stack.
        return tf.add_n(
            [share * output for share, output in zip(shares, experts, strict=True)]
        )

    def get_config(self):
        return super().get_config() | {"experts": self.experts}


class PerTaskBackbone(keras.layers.Layer):
    """A backbone with an output for each task.

    Args:
        num_tasks: how many; if none, the layer is good for `for_tasks` only, which
            `RankingModel` calls.
    """

    takes_fields = True

    def __init__(self, num_tasks: int | None = None, **kwargs):
        super().__init__(**kwargs)
        self.num_tasks = num_tasks

    def for_tasks(self, count: int) -> "PerTaskBackbone":
        """This layer, or one of the same parts, with outputs for `count` tasks.

        Raises:
            ValueError: the layer is for another number of tasks.
        """
        self._check_tasks(count)
        return self if self.num_tasks == count else self._copy(num_tasks=count)

    def _check_tasks(self, count: int) -> None:
        if self.num_tasks not in (None, count):
            raise ValueError(
                f"{type(self).__name__}.num_tasks must be {count}, the model's tasks; "
                f"leave it out. Received: {self.num_tasks}"
            )

    def _copy(self, **settings) -> "PerTaskBackbone":
        """A layer of the same name and parts with other `settings`."""
        raise NotImplementedError("A backbone for several tasks defines _copy().")

    def build(self, shapes):
        if self.num_tasks is None or self.num_tasks < 1:
            raise ValueError(
                f"{type(self).__name__}.num_tasks must be at least 1; RankingModel "
                f"sets it, other users have to. Received: {self.num_tasks}"
            )
        super().build(shapes)

    def get_config(self):
        return super().get_config() | {"num_tasks": self.num_tasks}


def check_widths(setting: str, experts: Sequence[tf.Tensor]) -> None:
    """Raises ValueError if `experts`, the outputs, cannot be mixed."""
    widths = [output.shape[-1] for output in experts]
    if len(set(widths)) > 1:
        raise ValueError(
            f"{setting} must all end in the same number of units. Received: {widths}"
        )


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class MMoE(PerTaskBackbone):
    """Experts that all tasks share, and a gate for each task.

        e_i      = expert_i(x)
        output_t = sum_i softmax(W_t x)_i * e_i

    (Ma et al., "Modeling task relationships in multi-task learning with multi-gate
    mixture-of-experts", KDD 2018, eq. 6 and 7). Call: name -> (batch, width), or
    (batch, F) -> a list of one (batch, U) for each task.

    Args:
        experts: the networks, or factories of them; any architectures that end in the
            same number of units.
        num_tasks: how many gates; see `PerTaskBackbone`.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mlp import MLP
    >>> from recap_tf.model.mmoe import MMoE
    >>> mmoe = MMoE(experts=[MLP([8]), MLP([16, 8])], num_tasks=3)
    >>> [output.shape for output in mmoe(tf.ones([2, 4]))]
    [TensorShape([2, 8]), TensorShape([2, 8]), TensorShape([2, 8])]
    """

    def __init__(self, experts: Sequence[LayerOrFactory], **kwargs):
        super().__init__(**kwargs)
        if not experts:
            raise ValueError("MMoE.experts must name at least one expert.")
        self.experts = [make_layer(expert) for expert in experts]

    def build(self, shapes):
        super().build(shapes)
        self.gates = [ExpertGate(len(self.experts)) for _ in range(self.num_tasks)]

    def call(self, inputs, training=None):
        fields = as_fields(inputs)
        outputs = [apply(expert, fields, training) for expert in self.experts]
        check_widths("MMoE.experts", outputs)
        return [gate([fields.flat, *outputs]) for gate in self.gates]

    def _copy(self, **settings):
        return type(self)(self.experts, **super().get_config() | settings)

    def gate_weights(self, inputs) -> list[tf.Tensor]:
        """How much each task takes of each expert: one (batch, experts) per task."""
        selector = as_fields(inputs).flat
        return [gate.weights_of(selector) for gate in self.gates]

    def get_config(self):
        experts = [layer_config(expert) for expert in self.experts]
        return super().get_config() | {"experts": experts}

    @classmethod
    def from_config(cls, config):
        experts = [layer_from_config(expert) for expert in config.pop("experts")]
        return cls(experts=experts, **config)
