"""The loader of versions: those of one graph share what is made of it."""

import threading
from collections.abc import Callable, Collection

import tensorflow as tf

from serving import freed_memory
from serving.models.batching_settings import Batching
from serving.models.program import Program
from serving.models.saved_model import SavedModel, load_saved_model
from serving.models.version_files import VersionFiles
from serving.monitoring import ModelRuns


class Loader:
    """Loads and unloads the versions of all models.

    A model that is trained on and exported again comes as the same graph with other
    variables. A version that goes leaves its session behind, with no variables in it,
    and the next version of the same graph moves in: of a load's seconds, only the
    reading of the variables remains, and requests for the old version hardly notice.

    Args:
        warm_up: makes a model ready, or raises.
        tags: which meta graph of a SavedModel is loaded.
        config: the sessions' numbers of threads.
        batching: how the requests of the version in a folder are put together; None
            runs each by itself.
        runs: what the runs of the model of a name are counted as.
        ahead: make a session for the next version beforehand, in `prepare`.
    """

    def __init__(
        self,
        warm_up: Callable[[SavedModel], None],
        *,
        tags: Collection[str] = ("serve",),
        config: tf.compat.v1.ConfigProto | None = None,
        batching: Callable[[str], Batching | None] = lambda path: None,
        runs: Callable[[str], ModelRuns | None] = lambda name: None,
        ahead: bool = False,
    ):
        self._warm_up, self._tags = warm_up, tags
        self._config, self._batching, self._runs = config, batching, runs
        self._ahead = ahead
        # Versions with other settings of batching are another graph.
        self._newest: dict[str, tuple[tuple, Program]] = {}
        self._vacant: dict[str, SavedModel] = {}
        self._lock = threading.RLock()
        self._turns: dict[str, threading.Lock] = {}

    def load(self, name: str, path: str) -> SavedModel:
        """A version of the model `name`, warmed up.

        Raises:
            ServingError: it cannot be loaded, or does not answer what it must.
        """
        with self._lock:
            turn = self._turns.setdefault(name, threading.Lock())
        # Versions of one model one after the other: the next may share the graph.
        with turn, freed_memory.uncollected():
            files = VersionFiles(path, self._tags)
            batching = self._batching(path)
            model = self._move_in(name, files, batching)
            try:
                self._warm_up(model)
            except BaseException:
                self.unload(name, model)
                raise
            self._remember(name, files, batching, model.program)
        return model

    def prepare(self, name: str, model: SavedModel) -> None:
        """Makes a session for the next version of the model, if there is none yet.

        Args:
            model: one that is loaded; not unloaded meanwhile.
        """
        if self._ahead and self._needs(name, model):
            vacant = SavedModel(model.program, self._config, self._runs(name))
            vacant.get_ready(model)
            self._leave_vacant(name, vacant)

    def unload(self, name: str, model: SavedModel) -> None:
        """Gives a version's memory back. No run of it may be under way."""
        if self._needs(name, model):
            model.vacate()
            freed_memory.trim()
            self._leave_vacant(name, model)
        else:
            _close(model)

    def _leave_vacant(self, name: str, vacant: SavedModel) -> None:
        """Keeps the session for the next version; closes it if there is one already."""
        with self._lock:
            needed = self._needs(name, vacant)
            if needed:
                self._vacant[name] = vacant
        if not needed:
            _close(vacant)

    def _needs(self, name: str, model: SavedModel) -> bool:
        """Whether a session of that program is kept for the next version."""
        with self._lock:
            known = name in self._newest and name not in self._vacant
            return known and self._newest[name][1] is model.program

    def forget(self, name: str) -> None:
        """Gives back what is kept for the next version of the model."""
        with self._lock:
            self._newest.pop(name, None)
            self._turns.pop(name, None)
            vacant = self._vacant.pop(name, None)
        if vacant is not None:
            _close(vacant)

    def _move_in(
        self, name: str, files: VersionFiles, batching: Batching | None
    ) -> SavedModel:
        files.check()
        runs = self._runs(name)
        with self._lock:
            made_of, program = self._newest.get(name, (None, None))
            known = made_of == (files.fingerprint, batching)
            vacant = self._vacant.pop(name, None) if known else None
        if not known:
            return load_saved_model(files, self._config, batching, runs)
        model = vacant or SavedModel(program, self._config, runs)
        try:
            model.fill(files)
        except BaseException:
            self._leave_vacant(name, model)
            raise
        return model

    def _remember(
        self,
        name: str,
        files: VersionFiles,
        batching: Batching | None,
        program: Program,
    ) -> None:
        with self._lock:
            if self._newest.get(name, (None, None))[1] is program:
                return
            vacant = self._vacant.pop(name, None)
            self._newest.pop(name, None)
            if files.fingerprint is not None:
                self._newest[name] = (files.fingerprint, batching), program
        if vacant is not None:
            _close(vacant)


def _close(model: SavedModel) -> None:
    model.close()
    freed_memory.give_memory_back()
