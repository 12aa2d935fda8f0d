"""A SavedModel that is loaded: a session that runs its signatures.

Any SavedModel: TensorFlow 1 graphs, Keras exports, `tf.saved_model.save`. It is loaded
into a session of its own, as TF Serving does: that runs the signatures' tensors as they
are named in the file, and closing it gives back all memory, threads and resources.
"""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import rewriter_config_pb2

from serving.batching import Batching, Tickets
from serving.errors import Code, ServingError, tensorflow_error, tensorflow_errors
from serving.monitoring import ModelRuns, Monitoring
from serving.program import Computation, Program, import_program
from serving.signatures import Signature, check_fits, check_rows
from serving.version_files import VersionFiles

v1 = tf.compat.v1


class SavedModel:
    """A loaded SavedModel.

    Args:
        files: of the version.
        config: threads of the session.
        batching: puts requests together; none runs each by itself.
        runs: counts runs and batches.
        program: of a version with the same `VersionFiles.fingerprint`; the graph is
            not made again.

    Raises:
        ServingError: it cannot be loaded.
    """

    def __init__(
        self,
        files: VersionFiles,
        config: v1.ConfigProto | None = None,
        batching: Batching | None = None,
        runs: ModelRuns | None = None,
        program: Program | None = None,
    ):
        files.check()
        self.path = files.path
        self._runs = runs or ModelRuns(Monitoring(), "")
        self._tickets = Tickets()
        self._callables: dict[Computation, Callable] = {}
        config = _quick(config)
        with _loading(files.path):
            if program is None and files.fingerprint is not None:
                program = import_program(files.meta_graph, batching)
            if program is not None:
                self._session = v1.Session(graph=program.graph, config=config)
                self.program = program
            else:
                self.program, self._session = _load_whole(files, config, batching)
        if program is not None:
            try:
                self._fill(files)
            except BaseException:
                self.close()
                raise

    @property
    def signatures(self) -> Mapping[str, Signature]:
        return self.program.signatures

    def close(self) -> None:
        """Gives all its memory back. No run may be under way."""
        self._callables.clear()
        self._session.close()
        self._session = self.program = None

    def vacate(self) -> None:
        """Gives the memory of its variables back; only `refill` makes it run again."""
        self._call(self.program.refill.vacate)()

    def refill(self, files: VersionFiles) -> None:
        """Becomes another version, of the same fingerprint.

        Raises:
            ServingError: its variables cannot be read; it is as after `vacate`.
        """
        files.check()
        self.path = files.path
        try:
            self._fill(files)
        except BaseException:
            self.vacate()
            raise

    def _fill(self, files: VersionFiles) -> None:
        refill = self.program.refill
        with _loading(files.path):
            self._call(refill.restore)(files.variables)
            if refill.initialize is not None:
                self._call(refill.initialize)()

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
        computation = None
        if self.program.fits_batches(signature):
            check_rows(names, given)
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
            raise proper from error
        self._runs.ran(signature.method, time.perf_counter() - started)
        found = dict(zip(computation.outputs, computed, strict=True))
        return {name: np.asarray(found[name]) for name in outputs}

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
        Tickets.count(taken, stamped, signature, self._runs)
        return computed

    def _call(self, computation: Computation) -> Callable:
        found = self._callables.get(computation)
        if found is None:
            with self.program.lock, tensorflow_errors():
                found = self._callables.get(computation)
                if found is None:
                    # Session.make_callable with feeds is Session.run in disguise:
                    # three times the time for one example.
                    found = self._session._make_callable_from_options(
                        computation.options
                    )
                    self._callables[computation] = found
        return found


def _load_whole(files: VersionFiles, config, batching) -> tuple[Program, v1.Session]:
    graph = tf.Graph()
    session = v1.Session(graph=graph, config=config)
    try:
        with graph.as_default():
            meta_graph = v1.saved_model.load(session, sorted(files.tags), files.path)
    except BaseException:
        session.close()
        raise
    return Program(graph, meta_graph.signature_def, batching), session


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
