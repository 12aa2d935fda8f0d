"""A SavedModel that is loaded: its signatures, and a session that runs them.

Any SavedModel: TensorFlow 1 graphs, Keras exports, `tf.saved_model.save`. It is loaded
into a session of its own, as TF Serving does: that runs the signatures' tensors as they
are named in the file, and closing it gives back all memory, threads and resources.
"""

import dataclasses
import functools
import itertools
import math
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import (
    config_pb2,
    meta_graph_pb2,
    rewriter_config_pb2,
)

from serving import tensors
from serving.batching import Batching, Tickets, batched
from serving.errors import (
    Code,
    ServingError,
    invalid,
    tensorflow_error,
    tensorflow_errors,
)
from serving.monitoring import ModelRuns, Monitoring
from serving.variable_files import check_variable_files

_MOST_SHAPES = 16
"""Different inner shapes of one signature that get a batch queue of their own."""
_MOST_CHOICES = 64
"""Different sets of outputs of one signature that are computed by themselves."""

v1 = tf.compat.v1


@dataclasses.dataclass(frozen=True)
class Endpoint:
    """An input or output of a signature.

    Args:
        tensor: its name in the graph.
        dtype: of its values.
        shape: sizes, None where any; None for an unknown rank.
    """

    tensor: str
    dtype: tf.DType
    shape: tuple[int | None, ...] | None


@dataclasses.dataclass(frozen=True)
class Signature:
    """What a model can be asked to compute.

    Args:
        key: its name.
        method: "tensorflow/serving/predict", .../classify or .../regress.
        inputs, outputs: alias -> endpoint.
        defaults: alias -> value of inputs that a request may leave out.
        definition: the proto, for metadata.
    """

    key: str
    method: str
    inputs: Mapping[str, Endpoint]
    outputs: Mapping[str, Endpoint]
    defaults: Mapping[str, np.ndarray]
    definition: meta_graph_pb2.SignatureDef


class SavedModel:
    """A loaded SavedModel.

    Args:
        path: the version's folder.
        tags: of the meta graph.
        config: threads of the session.
        batching: puts requests together; none runs each by itself.
        runs: counts runs and batches.

    Raises:
        ServingError: it cannot be loaded.
    """

    def __init__(
        self,
        path: str,
        tags: Collection[str] = ("serve",),
        config: v1.ConfigProto | None = None,
        batching: Batching | None = None,
        runs: ModelRuns | None = None,
    ):
        self.path = path
        self._runs = runs or ModelRuns(Monitoring(), "")
        self._tickets = Tickets()
        self._batching = batching
        self._callables: dict[tuple, Callable] = {}
        self._lock = threading.Lock()
        check_variable_files(path)
        self._graph = tf.Graph()
        self._session = v1.Session(graph=self._graph, config=_quick(config))
        try:
            with self._graph.as_default(), tensorflow_errors():
                meta_graph = v1.saved_model.load(self._session, sorted(tags), path)
        except ServingError:
            self._session.close()
            raise
        except (OSError, RuntimeError, ValueError, TypeError) as error:
            self._session.close()
            reason = str(error).strip().splitlines()[0]
            raise ServingError(
                Code.NOT_FOUND if isinstance(error, OSError) else Code.INVALID_ARGUMENT,
                f"Could not load SavedModel {path}: {reason}",
            ) from error
        self.signatures = {
            key: _signature(key, definition)
            for key, definition in meta_graph.signature_def.items()
            if key != "__saved_model_init_op"
        }

    def close(self) -> None:
        """Gives all its memory back. No run may be under way."""
        self._callables.clear()
        self._session.close()
        self._session = self._graph = None

    def signature(self, key: str) -> Signature:
        """Raises FAILED_PRECONDITION if there is none of that name."""
        if key not in self.signatures:
            raise ServingError(
                Code.FAILED_PRECONDITION, f'Serving signature key "{key}" not found.'
            )
        return self.signatures[key]

    def run(
        self,
        signature: Signature,
        inputs: Mapping[str, np.ndarray],
        outputs: Sequence[str],
    ) -> dict[str, np.ndarray]:
        """Computes `outputs`, aliases, from `inputs`, alias -> array, all given.

        Raises:
            ServingError: an array does not fit its endpoint, or the model fails.
        """
        names = sorted(signature.inputs)
        given = [inputs[name] for name in names]
        for name, array in zip(names, given, strict=True):
            check_fits(name, array, signature.inputs[name])
        call = None
        if self._batching is not None and _is_batchable(signature):
            check_rows(names, given)
            call, given = self._batched_call(signature, names, given)
            # The op computes every output; picking is cheap.
            wanted = sorted(signature.outputs)
        if call is None:
            wanted, call = self._plain_call(signature, names, outputs)
        started = time.perf_counter()
        try:
            computed = call(*given)
        except Exception as error:
            if (proper := tensorflow_error(error)) is None:
                raise
            raise proper from error
        self._runs.ran(signature.method, time.perf_counter() - started)
        found = dict(zip(wanted, computed, strict=True))
        return {name: np.asarray(found[name]) for name in outputs}

    def _plain_call(self, signature, names, outputs) -> tuple[list[str], Callable]:
        """The outputs that it computes, and the call."""
        wanted = sorted(outputs)
        key = (signature.key, "plain", *wanted)
        if (made := self._callables.get(key)) is not None:
            return wanted, made
        # Each set stays in memory, and clients choose them.
        if self._made(signature, "plain") >= _MOST_CHOICES:
            wanted = sorted(signature.outputs)
            key = (signature.key, "plain", *wanted)

        def make():
            return self._callable(
                [signature.inputs[name].tensor for name in names],
                [signature.outputs[name].tensor for name in wanted],
            )

        return wanted, self._made_once(key, make)

    def _batched_call(self, signature, names, given) -> tuple[Callable | None, list]:
        if self._batching.pad_variable_length_inputs:
            given = [
                _padded(array, signature.inputs[name])
                for name, array in zip(names, given, strict=True)
            ]
        # Rows of different shapes cannot be put together, and one odd request must
        # not fail the others: each shape has a queue of its own.
        inner = tuple(array.shape[1:] for array in given)
        key = (signature.key, "batched", inner)
        if (made := self._callables.get(key)) is not None:
            return made, given
        if self._made(signature, "batched") >= _MOST_SHAPES:
            return None, given
        make = lambda: self._make_batched(signature, names, inner)  # noqa: E731
        return self._made_once(key, make), given

    def _made(self, signature: Signature, kind: str) -> int:
        with self._lock:
            keys = list(self._callables)
        return sum(key[:2] == (signature.key, kind) for key in keys)

    def _make_batched(self, signature: Signature, names, inner) -> Callable:
        outputs = [signature.outputs[name].tensor for name in sorted(signature.outputs)]
        feeds = [signature.inputs[name].tensor for name in names]
        wanted = sorted({name.split(":")[0] for name in outputs})
        needed = v1.graph_util.extract_sub_graph(self._graph.as_graph_def(), wanted)
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

        with self._graph.as_default():
            placeholders = [
                v1.placeholder(signature.inputs[name].dtype, (None, *shape))
                for name, shape in zip(names, inner, strict=True)
            ]
            tickets = v1.placeholder(tf.float64, (None, Tickets.IN))
            computed = batched(compute, placeholders, tickets, self._batching)
            run = self._callable(
                [one.name for one in [*placeholders, tickets]],
                [one.name for one in computed],
            )
        return functools.partial(self._run_batched, run, signature.key)

    def _run_batched(self, run: Callable, signature: str, *given) -> list:
        taken = self._tickets.take(len(given[0]))
        self._runs.waits(signature, 1)
        try:
            *computed, stamped = run(*given, taken)
        finally:
            self._runs.waits(signature, -1)
        Tickets.count(taken, stamped, signature, self._runs)
        return computed

    def _callable(self, feeds: Sequence[str], fetches: Sequence[str]) -> Callable:
        # Session.make_callable with feeds is Session.run in disguise: three times the
        # time for one example.
        options = config_pb2.CallableOptions(feed=feeds, fetch=fetches)
        return self._session._make_callable_from_options(options)

    def _made_once(self, key, make: Callable[[], Callable]) -> Callable:
        found = self._callables.get(key)
        if found is None:
            with self._lock:
                found = self._callables.get(key)
                if found is None:
                    with tensorflow_errors():
                        found = self._callables[key] = make()
        return found


def _quick(config: v1.ConfigProto | None) -> v1.ConfigProto:
    """`config`, without the passes over graphs of TensorFlow that gain nothing here.

    A second round of them, those for training's memory, and those that only check or
    prepare for others: a third of the time that a version takes to load, and requests
    wait for that time's core. What is computed stays the same, bit by bit.
    """
    quick = v1.ConfigProto()
    if config is not None:
        quick.CopyFrom(config)
    passes = quick.graph_options.rewrite_options
    passes.meta_optimizer_iterations = rewriter_config_pb2.RewriterConfig.ONE
    passes.memory_optimization = rewriter_config_pb2.RewriterConfig.NO_MEM_OPT
    passes.disable_tfg_optimizer = True
    return quick


def check_fits(alias: str, array: np.ndarray, endpoint: Endpoint) -> None:
    """Raises INVALID_ARGUMENT unless dtype and shape are what the signature says."""
    dtype = tensors.dtype_of_array(array)
    if dtype is not endpoint.dtype and dtype != endpoint.dtype:
        raise invalid(
            f"input {alias} has the wrong dtype: expected "
            f"{tensors.dtype_name(endpoint.dtype.as_datatype_enum)}, received "
            f"{tensors.dtype_name(dtype.as_datatype_enum)}"
        )
    shape = endpoint.shape
    if shape is None:
        return
    if len(shape) == array.ndim:
        for wanted, own in zip(shape, array.shape, strict=True):
            if wanted is not None and wanted != own:
                break
        else:
            return
    raise invalid(
        f"input {alias} has the wrong shape: expected "
        f"{tensors.show_shape(shape)}, received {tensors.show_shape(array.shape)}"
    )


def check_rows(names: Sequence[str], arrays: Sequence[np.ndarray]) -> None:
    """Raises INVALID_ARGUMENT unless all have rows, and as many."""
    for name, array in zip(names, arrays, strict=True):
        if array.ndim == 0:
            raise invalid(
                f"Batching input tensors must have at least one dimension. Received: "
                f"input {name} of shape []"
            )
    rows = {name: len(array) for name, array in zip(names, arrays, strict=True)}
    if len(set(rows.values())) > 1:
        raise invalid(
            "Batching input tensors supplied in a given op invocation must have equal "
            f"0th-dimension size. Received: {rows}"
        )


def _signature(key: str, definition: meta_graph_pb2.SignatureDef) -> Signature:
    return Signature(
        key,
        definition.method_name,
        {alias: _endpoint(info) for alias, info in definition.inputs.items()},
        {alias: _endpoint(info) for alias, info in definition.outputs.items()},
        {
            alias: tf.make_ndarray(value)
            for alias, value in getattr(definition, "defaults", {}).items()
        },
        definition,
    )


def _endpoint(info: meta_graph_pb2.TensorInfo) -> Endpoint:
    return Endpoint(
        info.name,
        tf.dtypes.as_dtype(info.dtype),
        tensors.shape_of(info.tensor_shape),
    )


def _is_batchable(signature: Signature) -> bool:
    """Whether rows of its inputs are examples, and so are rows of its outputs."""
    ends = itertools.chain(signature.inputs.values(), signature.outputs.values())
    return bool(signature.inputs) and all(
        end.shape is None or (len(end.shape) > 0 and end.shape[0] is None)
        for end in ends
    )


def _padded(array: np.ndarray, endpoint: Endpoint) -> np.ndarray:
    """`array` with its free inner dimensions padded to the next power of two.

    Padding to powers of two, not to the largest request of the batch: so that a few
    shapes recur, each with a queue of its own.
    """
    if endpoint.shape is None or array.size == 0:
        return array
    sizes = [
        own if wanted is not None or i == 0 else 1 << math.ceil(math.log2(own))
        for i, (own, wanted) in enumerate(zip(array.shape, endpoint.shape, strict=True))
    ]
    widths = [(0, size - own) for size, own in zip(sizes, array.shape, strict=True)]
    if not any(width for _, width in widths):
        return array
    # As TF Serving does: the tensor's first element fills the padding.
    return np.pad(array, widths, constant_values=array.flat[0])
