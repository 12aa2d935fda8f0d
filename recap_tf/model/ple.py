"""Progressive layered extraction: experts of each task's own beside shared ones."""

import copy
from collections.abc import Callable, Mapping, Sequence

import gin
import tensorflow as tf
import tf_keras as keras

from recap_tf.model.fields import SHARED, Fields, apply, as_fields
from recap_tf.model.layers import (
    LayerOrFactory,
    layer_config,
    layer_from_config,
    make_layer,
)
from recap_tf.model.mmoe import ExpertGate, PerTaskBackbone, check_widths


@gin.register(denylist=["shared_gate"])
@keras.saving.register_keras_serializable(package="recap_tf")
class CGC(PerTaskBackbone):
    """Customized gate control: each task mixes its own experts and the shared ones.

        S_t      = [experts of task t applied to x_t, shared experts applied to x_s]
        output_t = softmax(W_t x_t) . S_t
        output_s = softmax(W_s x_s) . [all tasks' experts, shared experts]

    (Tang et al., "Progressive layered extraction", RecSys 2020, eq. 1 to 6). Alone it
    is a backbone: all x are the same, and there is no output_s. `PLE` stacks it, with
    a `shared_gate` where the next level needs an output_s.

    Call: name -> (batch, width), or (batch, F), or a list of x_1 .. x_T, x_s ->
    a list of output_1 .. output_T (batch, U), and output_s.

    Args:
        task_experts: factories of one task's experts; each is called once per task.
        shared_experts: the networks of all tasks, or factories of them. All experts
            end in the same number of units.
        num_tasks: T; see `PerTaskBackbone`.
        shared_gate: whether there is an output_s.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mlp import MLP
    >>> from recap_tf.model.ple import CGC
    >>> cgc = CGC([lambda: MLP([8])], [MLP([8])], num_tasks=2)
    >>> [output.shape for output in cgc(tf.ones([3, 4]))]
    [TensorShape([3, 8]), TensorShape([3, 8])]
    """

    def __init__(
        self,
        task_experts: Sequence[Callable[[], keras.layers.Layer]],
        shared_experts: Sequence[LayerOrFactory],
        shared_gate: bool = False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        for name, experts in (
            ("task_experts", task_experts),
            ("shared_experts", shared_experts),
        ):
            if not experts:
                raise ValueError(f"CGC.{name} must name at least one expert.")
        if any(isinstance(expert, keras.layers.Layer) for expert in task_experts):
            raise ValueError(
                "CGC.task_experts must be factories, as every task gets its own "
                f"experts. Received: {list(task_experts)}"
            )
        self.shared_gate = shared_gate
        self.shared_experts = [make_layer(expert) for expert in shared_experts]
        self._factories = tuple(task_experts)

    def as_level(self, count: int, shared_gate: bool) -> "CGC":
        """This layer, or one of the same parts, as a level of a `PLE`.

        Raises:
            ValueError: the layer is for another number of tasks.
        """
        self._check_tasks(count)
        if (self.num_tasks, self.shared_gate) == (count, shared_gate):
            return self
        return self._copy(num_tasks=count, shared_gate=shared_gate)

    def _copy(self, **settings):
        config = super().get_config() | {"shared_gate": self.shared_gate} | settings
        return type(self)(self._factories, self.shared_experts, **config)

    def build(self, shapes):
        super().build(shapes)
        of_task, shared = len(self._factories), len(self.shared_experts)
        # One flat list, task after task: Keras does not save layers in nested ones.
        self.task_experts = [
            factory() for _ in range(self.num_tasks) for factory in self._factories
        ]
        self.gates = [ExpertGate(of_task + shared) for _ in range(self.num_tasks)]
        if self.shared_gate:
            self.gates.append(ExpertGate(of_task * self.num_tasks + shared))

    def call(self, inputs, training=None):
        *task_fields, shared_fields = self._fields(inputs)
        of_tasks = [
            apply(expert, task_fields[i // len(self._factories)], training)
            for i, expert in enumerate(self.task_experts)
        ]
        shared = [
            apply(expert, shared_fields, training) for expert in self.shared_experts
        ]
        check_widths("CGC.task_experts and shared_experts", [*of_tasks, *shared])
        count = len(self._factories)
        mixed = [of_tasks[t * count : (t + 1) * count] for t in range(self.num_tasks)]
        if self.shared_gate:
            mixed.append(of_tasks)
        selectors = self._selectors(inputs)
        return [
            gate([selector, *experts, *shared])
            for gate, selector, experts in zip(
                self.gates, selectors, mixed, strict=True
            )
        ]

    def _fields(self, inputs) -> list[Fields]:
        """What each task's experts see, then what the shared ones see."""
        if not isinstance(inputs, (list, tuple)):
            return [as_fields(inputs)] * (self.num_tasks + 1)
        return [Fields({SHARED: x}) for x in inputs]

    def _selectors(self, inputs) -> list[tf.Tensor]:
        selectors = [fields.flat for fields in self._fields(inputs)]
        return selectors if self.shared_gate else selectors[:-1]

    def gate_weights(self, inputs) -> list[tf.Tensor]:
        """How much each task, then the shared gate, takes of each expert.

        One (batch, experts) for each gate; a task's own experts come first.
        """
        return [
            gate.weights_of(selector)
            for gate, selector in zip(self.gates, self._selectors(inputs), strict=True)
        ]

    def get_config(self):
        return super().get_config() | {
            "task_experts": [layer_config(make()) for make in self._factories],
            "shared_experts": [layer_config(layer) for layer in self.shared_experts],
            "shared_gate": self.shared_gate,
        }

    @classmethod
    def from_config(cls, config):
        shared = [layer_from_config(stored) for stored in config.pop("shared_experts")]
        of_task = [_factory(stored) for stored in config.pop("task_experts")]
        return cls(task_experts=of_task, shared_experts=shared, **config)


def _factory(config: Mapping) -> Callable[[], keras.layers.Layer]:
    unnamed = config | {
        "config": {k: v for k, v in config["config"].items() if k != "name"}
    }
    # Each use needs a copy of its own: `from_config` takes its argument apart.
    return lambda: layer_from_config(copy.deepcopy(unnamed))


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PLE(PerTaskBackbone):
    """`CGC` layers on top of each other, the tasks' paths parting step by step.

        x_1 .. x_T, x_s = level_1(x)
        x_1 .. x_T, x_s = level_j([x_1, ..., x_T, x_s])
        outputs         = level_n([x_1, ..., x_T, x_s]), which makes no x_s

    (Tang et al., RecSys 2020, eq. 7). The levels after the first see flat vectors.
    Call: name -> (batch, width), or (batch, F) -> a list of one (batch, U) for each
    task.

    Args:
        levels: the `CGC`s, or factories of them.
        num_tasks: T; see `PerTaskBackbone`.

    >>> import tensorflow as tf
    >>> from recap_tf.model.mlp import MLP
    >>> from recap_tf.model.ple import CGC, PLE
    >>> levels = [CGC([lambda: MLP([8])], [lambda: MLP([8])]) for _ in range(2)]
    >>> [output.shape for output in PLE(levels, num_tasks=2)(tf.ones([3, 4]))]
    [TensorShape([3, 8]), TensorShape([3, 8])]
    """

    def __init__(self, levels: Sequence[LayerOrFactory], **kwargs):
        super().__init__(**kwargs)
        if not levels:
            raise ValueError("PLE.levels must name at least one CGC.")
        levels = [make_layer(level) for level in levels]
        for level in levels:
            if not isinstance(level, CGC):
                raise ValueError(f"PLE.levels must be CGCs. Received: {level}")
        if self.num_tasks is not None:
            *lower, last = levels
            levels = [level.as_level(self.num_tasks, True) for level in lower]
            levels.append(last.as_level(self.num_tasks, False))
        self.levels = levels

    def _copy(self, **settings):
        return type(self)(self.levels, **super().get_config() | settings)

    def call(self, inputs, training=None):
        x = inputs
        for level in self.levels:
            x = level(x, training=training)
        return x

    def gate_weights(self, inputs) -> list[list[tf.Tensor]]:
        """The `CGC.gate_weights` of every level."""
        weights, x = [], inputs
        for level in self.levels:
            weights.append(level.gate_weights(x))
            x = level(x, training=False)
        return weights

    def get_config(self):
        levels = [layer_config(level) for level in self.levels]
        return super().get_config() | {"levels": levels}

    @classmethod
    def from_config(cls, config):
        levels = [layer_from_config(level) for level in config.pop("levels")]
        return cls(levels=levels, **config)
