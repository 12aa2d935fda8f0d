"""The graph of a SavedModel in memory, and what is computed with it."""

import contextlib
import dataclasses
import threading
from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import config_pb2, meta_graph_pb2

from serving.models.batching import Tickets, batched
from serving.models.batching_settings import Batching
from serving.models.signatures import Signature, is_batchable, padded, read_signature
from serving.tensorflow_errors import tensorflow_errors

_MOST_SHAPES = 16
"""Different inner shapes of one signature that get a batch queue of their own."""
_MOST_CHOICES = 64
"""Different sets of outputs of one signature that are computed by themselves."""

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True, eq=False)
class Computation:
    """What a session computes at once.

    Args:
        feeds, fetches: names of tensors in the graph.
        targets: names of ops that are run and give nothing.
        outputs: aliases of the first of the fetches.
        in_caller: its ops run in the thread that calls it, with that one's priority.
    """

    feeds: tuple[str, ...] = ()
    fetches: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()
    in_caller: bool = False

    @property
    def options(self) -> config_pb2.CallableOptions:
        return config_pb2.CallableOptions(
            feed=self.feeds,
            fetch=self.fetches,
            target=self.targets,
            run_options={"inter_op_thread_pool": -1 if self.in_caller else 0},
        )


@dataclasses.dataclass(frozen=True)
class Refill:
    """How a session of the graph gets the variables of another version.

    Args:
        restore: reads the variables; fed with the prefix of their files.
        initialize: what is done after `restore`, if anything.
        vacate: gives the variables' memory back.
    """

    restore: Computation
    initialize: Computation | None
    vacate: Computation


class Program:
    """A graph that sessions run: those of one version, or of several at once.

    Args:
        graph: has the model in it; batch ops are added.
        signatures: key -> definition, as the file has them.
        batching: puts requests together; none runs each by itself.
        refill: None: a session of it serves one version and no other.
    """

    def __init__(
        self,
        graph: tf.Graph,
        signatures: Mapping[str, meta_graph_pb2.SignatureDef],
        batching: Batching | None = None,
        refill: Refill | None = None,
    ):
        self.graph = graph
        self.definitions = dict(signatures)
        self.refill = refill
        self.signatures = {
            key: read_signature(key, definition)
            for key, definition in signatures.items()
            if key != _INITIALIZE
        }
        self._batching = batching
        self.pool_name = batching.thread_pool_name if batching else ""
        self._computations: dict[tuple, Computation | None] = {}
        self._lock = threading.Lock()

    def plain(self, signature: Signature, outputs: Sequence[str]) -> Computation:
        """Computes at least `outputs`, aliases, of one request."""
        wanted = tuple(sorted(outputs))
        key = signature.key, "plain", wanted
        if (computation := self._computations.get(key)) is not None:
            return computation
        with self._lock:
            # Each set stays in memory, and clients choose them.
            if self._count(signature, "plain") >= _MOST_CHOICES:
                wanted = tuple(sorted(signature.outputs))
                key = signature.key, "plain", wanted
            computation = self._computations.get(key)
            if computation is None:
                computation = self._computations[key] = Computation(
                    tuple(signature.inputs[name].tensor for name in _names(signature)),
                    tuple(signature.outputs[name].tensor for name in wanted),
                    outputs=wanted,
                )
            return computation

    def fits_batches(self, signature: Signature) -> bool:
        """Whether its requests are put together."""
        return self._batching is not None and is_batchable(signature)

    def pad(self, signature: Signature, arrays: Sequence[np.ndarray]) -> list:
        """`arrays`, in the order of their aliases, as they go into a batch."""
        if not self._batching.pad_variable_length_inputs:
            return list(arrays)
        return [
            padded(array, signature.inputs[name])
            for name, array in zip(_names(signature), arrays, strict=True)
        ]

    def batched(
        self, signature: Signature, arrays: Sequence[np.ndarray]
    ) -> Computation | None:
        """Computes all outputs of several requests; None: each is run by itself.

        That is so where there are too many shapes already, and for a shape that the
        graph cannot have. Its last feed and fetch are `Tickets`.
        """
        # Rows of different shapes cannot be put together, and one odd request must
        # not fail the others: each shape has a queue of its own.
        inner = tuple(array.shape[1:] for array in arrays)
        key = signature.key, "batched", inner
        if (computation := self._computations.get(key)) is not None:
            return computation
        with self._lock:
            if key in self._computations:
                return self._computations[key]
            if self._count(signature, "batched") >= _MOST_SHAPES:
                return None
            computation = None
            with tensorflow_errors(), contextlib.suppress(ValueError):
                computation = self._make_batched(signature, inner)
            self._computations[key] = computation
            return computation

    def _count(self, signature: Signature, kind: str) -> int:
        return sum(key[:2] == (signature.key, kind) for key in self._computations)

    def _make_batched(self, signature: Signature, inner) -> Computation:
        names, aliases = _names(signature), sorted(signature.outputs)
        outputs = [signature.outputs[name].tensor for name in aliases]
        feeds = [signature.inputs[name].tensor for name in names]
        wanted = sorted({name.split(":")[0] for name in outputs})
        needed = v1.graph_util.extract_sub_graph(self.graph.as_graph_def(), wanted)
        present = {node.name for node in needed.node}

        def compute(*rows):
            mapped = {
                feed: row
                for feed, row in zip(feeds, rows, strict=True)
                if feed.split(":")[0] in present
            }
            return tf.graph_util.import_graph_def(
                needed, input_map=mapped, return_elements=outputs, name=""
            )

        with self.graph.as_default():
            placeholders = [
                v1.placeholder(signature.inputs[name].dtype, (None, *shape))
                for name, shape in zip(names, inner, strict=True)
            ]
            tickets = v1.placeholder(tf.float64, (None, Tickets.IN))
            computed = batched(compute, placeholders, tickets, self._batching)
        return Computation(
            tuple(tensor.name for tensor in [*placeholders, tickets]),
            tuple(tensor.name for tensor in computed),
            outputs=tuple(aliases),
        )


def import_program(
    meta_graph: meta_graph_pb2.MetaGraphDef, batching: Batching | None
) -> Program:
    """The program of a graph that `same_graph.is_refillable`."""
    with tf.Graph().as_default() as graph:
        v1.train.import_meta_graph(meta_graph)
        handles = [
            op.outputs[0] for op in graph.get_operations() if op.type == "VarHandleOp"
        ]
        vacate = tf.group(
            *(
                tf.raw_ops.DestroyResourceOp(resource=handle, ignore_lookup_error=True)
                for handle in handles
            )
        )
    saver = meta_graph.saver_def
    initialize = _initializer(meta_graph)
    refill = Refill(
        Computation(
            (saver.filename_tensor_name,),
            targets=(saver.restore_op_name,),
            in_caller=True,
        ),
        Computation(targets=(initialize,)) if initialize else None,
        Computation(targets=(vacate.name,)),
    )
    return Program(graph, meta_graph.signature_def, batching, refill)


_INITIALIZE = "__saved_model_init_op"


def _initializer(meta_graph: meta_graph_pb2.MetaGraphDef) -> str | None:
    """The op that is run when the variables are there."""
    if _INITIALIZE in meta_graph.signature_def:
        return meta_graph.signature_def[_INITIALIZE].outputs[_INITIALIZE].name
    for key in ("saved_model_main_op", "legacy_init_op"):
        for name in meta_graph.collection_def[key].node_list.value:
            return name
    return None


def _names(signature: Signature) -> list[str]:
    return sorted(signature.inputs)
