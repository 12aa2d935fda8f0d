"""Loads and unloads versions; those of one graph are made of it once."""

import threading
from collections.abc import Callable, Collection

from serving import memory
from serving.program import Program
from serving.saved_model import SavedModel
from serving.version_files import VersionFiles


class Loader:
    """Loads and unloads the versions of all models.

    A model that is trained on and exported again comes as the same graph with other
    variables. A version that goes leaves its session behind, with no variables in it,
    and the next version of the same graph moves in: of a load's seconds, only the
    reading of the variables remains, and requests for the old version hardly notice.

    Args:
        make: a model of (model's name, files, program or None); see `SavedModel`.
        warm_up: makes a model ready, or raises.
        tags: of the meta graphs.
    """

    def __init__(
        self,
        make: Callable[[str, VersionFiles, Program | None], SavedModel],
        warm_up: Callable[[SavedModel], None],
        tags: Collection[str] = ("serve",),
    ):
        self._make, self._warm_up, self._tags = make, warm_up, tags
        self._newest: dict[str, tuple[bytes, Program]] = {}
        self._vacant: dict[str, SavedModel] = {}
        self._lock = threading.Lock()

    def load(self, name: str, path: str) -> SavedModel:
        """A version of the model `name`, warmed up.

        Raises:
            ServingError: it cannot be loaded, or does not answer what it must.
        """
        with memory.uncollected():
            files = VersionFiles(path, self._tags)
            files.check()
            model = self._move_in(name, files)
            try:
                self._warm_up(model)
            except BaseException:
                self.unload(name, model)
                raise
        self._remember(name, files, model.program)
        return model

    def unload(self, name: str, model: SavedModel) -> None:
        """Gives a version's memory back. No run of it may be under way."""
        with self._lock:
            stays = name in self._newest and self._newest[name][1] is model.program
        if not stays:
            model.close()
            memory.give_memory_back()
            return
        model.vacate()
        with self._lock:
            stays = self._vacant.setdefault(name, model) is model
        if not stays:
            model.close()
        memory.trim()

    def forget(self, name: str) -> None:
        """Gives back what is kept for the next version of the model."""
        with self._lock:
            self._newest.pop(name, None)
            vacant = self._vacant.pop(name, None)
        if vacant is not None:
            vacant.close()
        memory.give_memory_back()

    def _move_in(self, name: str, files: VersionFiles) -> SavedModel:
        vacant = program = None
        with self._lock:
            fingerprint, newest = self._newest.get(name, (None, None))
            if newest is not None and fingerprint == files.fingerprint:
                program = newest
                vacant = self._vacant.pop(name, None)
        if vacant is None:
            return self._make(name, files, program)
        try:
            vacant.refill(files)
        except BaseException:
            self.unload(name, vacant)
            raise
        return vacant

    def _remember(self, name: str, files: VersionFiles, program: Program) -> None:
        with self._lock:
            if self._newest.get(name, (None, None))[1] is program:
                return
            vacant = self._vacant.pop(name, None)
            if files.fingerprint is None:
                self._newest.pop(name, None)
            else:
                self._newest[name] = files.fingerprint, program
        if vacant is not None:
            vacant.close()
