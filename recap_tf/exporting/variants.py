"""Other forms of a trained ranker that compute the same, or nearly, at other speeds."""

from collections.abc import Mapping
from typing import Literal

import tensorflow as tf
import tf_keras as keras
from tensorflow.core.protobuf import config_pb2
from tensorflow.python.framework.convert_to_constants import (
    convert_variables_to_constants_v2,
)
from tensorflow.python.grappler import tf_optimizer

from recap_tf.core.command import UserError
from recap_tf.data import record_batches
from recap_tf.model.ranking_model import FeatureSpec
from recap_tf.model.scorer import Scorer, with_calibrators
from recap_tf.settings import Ranker
from recap_tf.training.building import build_model

Variant = Literal["bfloat16", "frozen"]
VARIANTS: tuple[Variant, ...] = ("bfloat16", "frozen")
_MOST_BYTES = 1 << 30
"""Of constants: a SavedModel's graph, a protobuf, must stay below 2 GiB."""


def make_variant(variant: Variant, ranker: Ranker, model: Scorer) -> Scorer:
    """Makes another form of a trained model: see `in_bfloat16` and `FrozenRanker`."""
    if variant == "bfloat16":
        return in_bfloat16(ranker, model)
    return FrozenRanker(model, record_batches.feature_specs(ranker.train_data))


def in_bfloat16(ranker: Ranker, model: Scorer) -> Scorer:
    """A copy of `model` that computes matrix products in bfloat16.

    It computes what recap.ranker.precision = "bfloat16" does. There, weights are
    float32 and are rounded at each use; here they are stored rounded: half the memory,
    and nothing to convert. Normalizations, large tables, affine maps and all that
    comes after the logits stay float32.
    """
    before = keras.mixed_precision.global_policy()
    try:
        rounded = build_model(ranker, policy="bfloat16")
    finally:
        keras.mixed_precision.set_global_policy(before)
    for weight, trained in zip(rounded.variables, model.variables, strict=True):
        weight.assign(tf.cast(trained, weight.dtype))
    return with_calibrators(rounded, model.calibrators)


class FrozenRanker:
    """A trained ranker whose weights are constants of its graph; no variables left.

    What depends on constants alone is computed now (grappler's constant folding and
    arithmetic optimizations), so sums may be taken in another order.

    Call: as `RankingModel`, features after preprocessing.

    Args:
        model: with its trained weights, and with calibrators if it has some.
        specs: feature -> its (batch, ...) spec, see `record_batches.feature_specs`.

    Raises:
        UserError: its weights are too large for a graph, or it has large tables.
    """

    def __init__(self, model: Scorer, specs: Mapping[str, FeatureSpec]):
        if model.large_embeddings is not None:
            raise UserError(
                "--variant frozen cannot hold RankingModel.large_embeddings: a graph's "
                "constants must stay below 2 GiB. Use --variant bfloat16."
            )
        size = sum(v.dtype.size * v.shape.num_elements() for v in model.variables)
        if size > _MOST_BYTES:
            raise UserError(
                f"--variant frozen takes models of at most {_MOST_BYTES >> 20} MiB: a "
                f"graph's constants must stay below 2 GiB. Received: {size >> 20} MiB"
            )
        self.tasks = model.tasks
        self.calibration_ratios = model.calibration_ratios
        self.score_weights = model.score_weights
        self.calibrators = model.calibrators
        self.large_embeddings = None
        self.variables: list[tf.Variable] = []
        self._names = sorted(specs)
        scored = tf.function(lambda features: model(features, training=False))
        concrete = scored.get_concrete_function(dict(specs))
        self._outputs = sorted(concrete.structured_outputs)
        self._constant = _folded(convert_variables_to_constants_v2(concrete))

    def __call__(self, inputs, training=None):
        if training:
            raise ValueError("A FrozenRanker cannot be trained.")
        known = {name: inputs[name] for name in self._names}
        flat = tf.nest.flatten(known, expand_composites=True)
        return dict(zip(self._outputs, self._constant(*flat), strict=True))


def _folded(function):
    """Has grappler go over a function without variables."""
    graph_def = _optimized(function, _without_rsqrt(function.graph.as_graph_def()))
    inputs = [tensor.name for tensor in function.inputs]
    outputs = [tensor.name for tensor in function.outputs]

    def imported(*tensors):
        return tf.graph_util.import_graph_def(
            graph_def,
            input_map=dict(zip(inputs, tensors, strict=True)),
            return_elements=outputs,
            name="",
        )

    return tf.function(
        imported,
        input_signature=[
            tf.TensorSpec(tensor.shape, tensor.dtype, f"input_{i}")
            for i, tensor in enumerate(function.inputs)
        ],
        autograph=False,
    )


def _without_rsqrt(graph_def: tf.compat.v1.GraphDef) -> tf.compat.v1.GraphDef:
    """The graph with 1 / sqrt(x) in place of rsqrt(x).

    Where scale and offset of a layer normalization are constants, TensorFlow with
    oneDNN (2.21 does) makes one operation of it that takes .001 for its epsilon,
    whatever it was. This hides the pattern that it looks for.
    """
    for node in [node for node in graph_def.node if node.op == "Rsqrt"]:
        root = graph_def.node.add()
        root.CopyFrom(node)
        root.name, root.op = f"{node.name}/sqrt", "Sqrt"
        node.op = "Reciprocal"
        node.input[0] = root.name
    return graph_def


def _optimized(function, graph_def) -> tf.compat.v1.GraphDef:
    config = config_pb2.ConfigProto()
    rewrites = config.graph_options.rewrite_options
    # Not those that depend on the machine: layouts and fused operations are chosen
    # where the model is loaded.
    rewrites.optimizers.extend(["constfold", "arithmetic", "dependency", "pruning"])
    rewrites.min_graph_nodes = -1  # Small graphs too.
    meta_graph = tf.compat.v1.train.export_meta_graph(
        graph_def=graph_def, graph=function.graph
    )
    fetches = meta_graph.collection_def["train_op"].node_list.value
    fetches.extend(tensor.name for tensor in [*function.inputs, *function.outputs])
    return tf_optimizer.OptimizeGraph(config, meta_graph)
