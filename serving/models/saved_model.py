"""A SavedModel that is loaded: a session that runs its signatures.

Any SavedModel: TensorFlow 1 graphs, Keras exports, `tf.saved_model.save`. It is loaded
into a session of its own, as TF Serving does: that runs the signatures' tensors as they
are named in the file, and closing it gives back all memory, threads and resources.
"""

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2, rewriter_config_pb2

from serving.errors import ServingError
from serving.models.batching import Tickets
from serving.models.batching_settings import Batching
from serving.models.foreign_ops import register_ops
from serving.models.priority import run_behind_requests
from serving.models.program import Computation, Program, import_program
from serving.models.signatures import (
    Signature,
    check_dtype,
    check_rows,
    has_declared_shape,
    wrong_shapes,
)
from serving.models.version_files import VersionFiles
from serving.monitoring import ModelRuns, Monitoring
from serving.status_codes import Code
from serving.tensorflow_errors import tensorflow_error, tensorflow_errors

v1 = tf.compat.v1


class SavedModel:
    """A session over a program: it has the variables of one version, or of none.

    Args:
        program: the graph and its signatures, shared with other versions of it.
        config: the session's numbers of threads.
        runs: counts runs and batches.
        session: a session that has variables already; None for a new one.
    """

    def __init__(
        self,
        program: Program,
        config: v1.ConfigProto | None = None,
        runs: ModelRuns | None = None,
        session: v1.Session | None = None,
    ):
        self.program = program
        self.path: str | None = None
        self._runs = runs or ModelRuns(Monitoring(), "")
        self._session = session or v1.Session(
            graph=program.graph, config=_quick(config)
        )
        self._tickets = Tickets()
        self._callables: dict[Computation, Callable] = {}
        self._lock = threading.Lock()

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self.program.signatures

    @property
    def definitions(self) -> Mapping[str, meta_graph_pb2.SignatureDef]:
        """Key -> definition as the file has it; of more than can be run."""
        return self.program.definitions

    def fill(self, files: VersionFiles) -> None:
        """Becomes a version; the program is of its fingerprint.

        Raises:
            ServingError: its variables cannot be read; it has none then.
        """
        refill = self.program.refill
        try:
            with _loading(files.path):
                restore = self._call(refill.restore)
                run_behind_requests(lambda: restore(files.variables))
                if refill.initialize is not None:
                    self._call(refill.initialize)()
        except BaseException:
            self.vacate()
            raise
        self.path = files.path

    def vacate(self) -> None:
        """Gives its variables' memory back. No run may be under way."""
        self.path = None
        self._call(self.program.refill.vacate)()

    def close(self) -> None:
        """Gives all its memory back. No run may be under way."""
        self._callables.clear()
        self._session.close()
        self._session = self.program = None

    def get_ready(self, like: "SavedModel") -> None:
        """Compiles what `like`, of the same program, computes; both can be vacated."""
        like._call(self.program.refill.vacate)
        for computation in list(like._callables):
            self._call(computation)

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
        method: str = "",
    ) -> dict[str, np.ndarray]:
        """Computes `outputs`, aliases, from `inputs`, alias -> array, all given.

        Args:
            method: what it is counted as; else the signature's.

        Raises:
            ServingError: an array has another dtype than its endpoint, or the model
                fails; with the declared shapes if one of the given ones is another.
        """
        names = sorted(signature.inputs)
        given = [inputs[name] for name in names]
        for name, array in zip(names, given, strict=True):
            check_dtype(name, array, signature.inputs[name])
        computation, sent = None, given
        if self.program.fits_batches(signature):
            check_rows(names, given)
            # What the graph makes of other shapes is seen when it runs: they get no
            # queue, of which there are few.
            if all(
                has_declared_shape(array, signature.inputs[name])
                for name, array in zip(names, given, strict=True)
            ):
                given = self.program.pad(signature, given)
                # The op computes every output; picking is cheap.
                computation = self.program.batched(signature, given)
        run = self._run_batched
        if computation is None:
            computation, run = self.program.plain(signature, outputs), self._run_plain
        call = self._call(computation)
        started = time.perf_counter()
        try:
            computed = run(call, signature.key, given)
        except Exception as error:
            if (proper := tensorflow_error(error)) is None:
                raise
            if shapes := wrong_shapes(signature, names, sent):
                reason = proper.message.splitlines()[0]
                proper = ServingError(proper.code, f"{shapes}. {reason}")
            raise proper from error
        self._runs.ran(method or signature.method, time.perf_counter() - started)
        by_alias = dict(zip(computation.outputs, computed, strict=True))
        return {name: np.asarray(by_alias[name]) for name in outputs}

    @staticmethod
    def _run_plain(call: Callable, signature: str, given: Sequence) -> list:
        return call(*given)

    def _run_batched(self, call: Callable, signature: str, given: Sequence) -> list:
        taken = self._tickets.take(len(given[0]))
        self._runs.waits(signature, 1)
        try:
            *computed, stamped = call(*given, taken)
        finally:
            self._runs.waits(signature, -1)
        pool = self.program.pool_name
        Tickets.count(taken, stamped, signature, self._runs, pool)
        return computed

    def _call(self, computation: Computation) -> Callable:
        call = self._callables.get(computation)
        if call is None:
            with self._lock, tensorflow_errors():
                call = self._callables.get(computation)
                if call is None:
                    # Session.make_callable with feeds is Session.run in disguise:
                    # three times the time for one example.
                    call = self._session._make_callable_from_options(
                        computation.options
                    )
                    self._callables[computation] = call
        return call


def load_saved_model(
    files: VersionFiles,
    config: v1.ConfigProto | None = None,
    batching: Batching | None = None,
    runs: ModelRuns | None = None,
) -> SavedModel:
    """Makes a version's graph, and a session that has its variables.

    Args:
        files: the version's files, checked.
        config: the session's numbers of threads.
        batching: puts requests together; none runs each by itself.
        runs: counts runs and batches.

    Raises:
        ServingError: it cannot be loaded.
    """
    unknown = register_ops(files.meta_graph) if files.meta_graph else None
    try:
        return _load(files, config, batching, runs)
    except ServingError as error:
        if unknown is None:
            raise
        message = f"Could not load SavedModel {files.path}: {unknown}"
        raise ServingError(error.code, message) from error


def _load(files: VersionFiles, config, batching, runs) -> SavedModel:
    if files.fingerprint is None:
        return _load_whole(files, config, batching, runs)
    with _loading(files.path):
        program = import_program(files.meta_graph, batching)
    model = SavedModel(program, config, runs)
    try:
        model.fill(files)
    except BaseException:
        model.close()
        raise
    return model


def _load_whole(files: VersionFiles, config, batching, runs) -> SavedModel:
    """Loads graphs whose state is more than variables; or says why they cannot be."""
    graph = tf.Graph()
    session = v1.Session(graph=graph, config=_quick(config))
    try:
        with _loading(files.path), graph.as_default():
            meta_graph = v1.saved_model.load(session, sorted(files.tags), files.path)
    except BaseException:
        session.close()
        raise
    program = Program(graph, meta_graph.signature_def, batching)
    model = SavedModel(program, config, runs, session)
    model.path = files.path
    return model


@contextlib.contextmanager
def _loading(path: str) -> Iterator[None]:
    """Turns whatever loading raises into a `ServingError`."""
    try:
        with tensorflow_errors():
            yield
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        reason = str(error).strip().splitlines()[0]
        raise ServingError(
            Code.NOT_FOUND if isinstance(error, OSError) else Code.INVALID_ARGUMENT,
            f"Could not load SavedModel {path}: {reason}",
        ) from error


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
