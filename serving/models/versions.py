"""Versions of a model: the states of one, its users, and which ones are served."""

import dataclasses
import enum
import threading
from collections.abc import Callable, Collection

import tensorflow as tf
from tensorflow_serving.config import file_system_storage_path_source_pb2

from serving.errors import ServingError
from serving.models.saved_model import SavedModel
from serving.status_codes import Code

Policy = (
    file_system_storage_path_source_pb2.FileSystemStoragePathSourceConfig
).ServableVersionPolicy
"""The proto ServableVersionPolicy: `latest`, `all` or `specific`."""

_LARGEST = 2**63 - 1


class VersionState(enum.IntEnum):
    """Where a version stands; names and numbers of ModelVersionStatus.State."""

    START = 10
    LOADING = 20
    AVAILABLE = 30
    UNLOADING = 40
    END = 50


@dataclasses.dataclass(frozen=True)
class VersionStatus:
    """The status of a version as GetModelStatus tells it."""

    version: int
    state: VersionState
    error: ServingError | None = None


class ModelVersion:
    """One version of a model, from the moment it is wanted until it is gone.

    Args:
        number: the name of its folder, at least 0.
        path: the folder of its SavedModel.
    """

    def __init__(self, number: int, path: str):
        self.number = number
        self.path = path
        self.state = VersionState.START
        self.error: ServingError | None = None
        self._model: SavedModel | None = None
        self._users = 0
        self._changed = threading.Condition()

    @property
    def status(self) -> VersionStatus:
        return VersionStatus(self.number, self.state, self.error)

    def load(
        self,
        load: Callable[[str], SavedModel],
        *,
        retries: int,
        wait: Callable[[], bool],
    ) -> None:
        """Loads it, with retries; ends AVAILABLE, or END with an error.

        Args:
            load: makes a model, warmed up, of a folder.
            retries: further attempts after the first.
            wait: waits between two attempts; False: give up.
        """
        self.state = VersionState.LOADING
        for attempt in range(retries + 1):
            try:
                self._model = load(self.path)
            except ServingError as error:
                self.error = error
                if attempt == retries or not wait():
                    break
            else:
                self.error, self.state = None, VersionState.AVAILABLE
                return
        self.state = VersionState.END

    def take(self) -> SavedModel | None:
        """The model, not unloaded before `give_back`; None if it is not available."""
        with self._changed:
            if self.state is not VersionState.AVAILABLE:
                return None
            self._users += 1
            return self._model

    def give_back(self) -> None:
        """Ends a use that `take` began."""
        with self._changed:
            self._users -= 1
            if self.state is VersionState.UNLOADING:
                self._changed.notify_all()

    def unload(self, unload: Callable[[SavedModel], None]) -> None:
        """Takes no new requests, waits for those under way, gives the memory back.

        Args:
            unload: gives a model's memory back.
        """
        with self._changed:
            self.state = VersionState.UNLOADING
            self._changed.wait_for(lambda: self._users == 0)
            model, self._model = self._model, None
        if model is not None:
            unload(model)
        self.state = VersionState.END


def find_versions(base_path: str) -> dict[int, str]:
    """The versions below `base_path`, number -> folder.

    A version is a folder named by an integer that an int64 holds; leading zeros are
    allowed. Anything else is passed over.

    Raises:
        ServingError: NOT_FOUND, there is no such path.
    """
    try:
        listed = sorted(tf.io.gfile.listdir(base_path))
    except tf.errors.OpError as error:
        raise ServingError(
            Code.NOT_FOUND, f"Could not find base path {base_path} for servable"
        ) from error
    folders = {}
    for name in listed:
        name = name.rstrip("/")
        if name.isdecimal() and name.isascii() and int(name) <= _LARGEST:
            folders[int(name)] = f"{base_path.rstrip('/')}/{name}"
    return folders


def is_version(path: str) -> bool:
    """Whether the folder is itself a version: it has a SavedModel's graph."""
    names = ("saved_model.pb", "saved_model.pbtxt")
    return any(tf.io.gfile.exists(f"{path.rstrip('/')}/{name}") for name in names)


def choose_versions(numbers: Collection[int], policy: Policy) -> set[int]:
    """The versions of `numbers` that `policy` serves; the latest one by default."""
    kind = policy.WhichOneof("policy_choice")
    if kind == "all":
        return set(numbers)
    if kind == "specific":
        return set(policy.specific.versions) & set(numbers)
    count = policy.latest.num_versions or 1
    return set(sorted(numbers)[-count:])
