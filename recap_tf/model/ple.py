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
from recap_tf.model.mmoe import ExpertGate, PerTask, check_widths, serve_tasks


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class CGC(PerTask):
    """Customized gate control: each task mixes its own experts and the shared ones.

        S_t      = [experts of task t applied to x_t, shared experts applied to x_s]
        output_t = softmax(W_t x_t) . S_t
        output_s = softmax(W_s x_s) . [all tasks' experts, shared experts]

    (Tang et al., "Progressive layered extraction", RecSys 2020, eq. 1 to 6). Alone it
    is a backbone: all x are the same, and there is no output_s. `PLE` stacks it, and
    sets `shared_gate` where the next level needs an output_s.

    Call: name -> (batch, width), or (batch, F), or a list of x_1 .. x_T, x_s ->
    a list of output_1 .. output_T (batch, U), and output_s.

    Args:
        task_experts: factories of one task's experts; each is called once per task.
        shared_experts: the networks of all tasks, or factories of them. All experts
            end in the same number of units.
        num_tasks: T, which `PLE` sets for its levels; see `PerTask`.
    """

    def __init__(
        self,
        task_experts: Sequence[Callable[[], keras.layers.Layer]],
        shared_experts: Sequence[LayerOrFactory],
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
        self.shared_gate = False
        self.shared_experts = [make_layer(expert) for expert in shared_experts]
        self._factories = tuple(task_experts)

    def build(self, shapes):
        super().build(shapes)
        own, shared = len(self._factories), len(self.shared_experts)
        # One flat list, task after task: Keras does not save layers in nested ones.
        self.task_experts = [
            factory() for _ in range(self.num_tasks) for factory in self._factories
        ]
        self.gates = [ExpertGate(own + shared) for _ in range(self.num_tasks)]
        if self.shared_gate:
            self.gates.append(ExpertGate(own * self.num_tasks + shared))

    def call(self, inputs, training=None):
        *task_fields, shared_fields = self._fields(inputs)
        own = [
            apply(expert, task_fields[i // len(self._factories)], training)
            for i, expert in enumerate(self.task_experts)
        ]
        shared = [apply(one, shared_fields, training) for one in self.shared_experts]
        check_widths("CGC.task_experts and shared_experts", [*own, *shared])
        count = len(self._factories)
        mixed = [own[t * count : (t + 1) * count] for t in range(self.num_tasks)]
        if self.shared_gate:
            mixed.append(own)
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
            "shared_experts": [layer_config(one) for one in self.shared_experts],
            "shared_gate": self.shared_gate,
        }

    @classmethod
    def from_config(cls, config):
        shared_gate = config.pop("shared_gate")
        shared = [layer_from_config(one) for one in config.pop("shared_experts")]
        own = [_factory(one) for one in config.pop("task_experts")]
        layer = cls(task_experts=own, shared_experts=shared, **config)
        # Keras builds a loaded level before the `PLE` around it could set this.
        layer.shared_gate = shared_gate
        return layer


def _factory(config: Mapping) -> Callable[[], keras.layers.Layer]:
    unnamed = config | {
        "config": {k: v for k, v in config["config"].items() if k != "name"}
    }
    # Each use needs a copy of its own: `from_config` takes its argument apart.
    return lambda: layer_from_config(copy.deepcopy(unnamed))


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class PLE(PerTask):
    """`CGC` layers on top of each other, the tasks' paths parting step by step.

        x_1 .. x_T, x_s = level_1(x)
        x_1 .. x_T, x_s = level_j([x_1, ..., x_T, x_s])
        outputs         = level_n([x_1, ..., x_T, x_s]), which makes no x_s

    (Tang et al., RecSys 2020, eq. 7). The levels after the first see flat vectors.
    Call: name -> (batch, width), or (batch, F) -> a list of one (batch, U) for each
    task.

    Args:
        levels: the `CGC`s, or factories of them.
        num_tasks: T; see `PerTask`.
    """

    def __init__(self, levels: Sequence[LayerOrFactory], **kwargs):
        super().__init__(**kwargs)
        if not levels:
            raise ValueError("PLE.levels must name at least one CGC.")
        self.levels = [make_layer(level) for level in levels]
        for level in self.levels:
            if not isinstance(level, CGC):
                raise ValueError(f"PLE.levels must be CGCs. Received: {level}")

    def build(self, shapes):
        super().build(shapes)
        for level in self.levels:
            serve_tasks(level, self.num_tasks)
            level.shared_gate = level is not self.levels[-1]

    def call(self, inputs, training=None):
        x = inputs
        for level in self.levels:
            x = level(x, training=training)
        return x

    def gate_weights(self, inputs) -> list[list[tf.Tensor]]:
        """`CGC.gate_weights` of every level."""
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
