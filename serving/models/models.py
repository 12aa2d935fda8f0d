"""All models of a server: what is served, found by name, version or label."""

import concurrent.futures
import contextlib
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence

from tensorflow_serving.apis import model_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.errors import Code, ServingError, invalid
from serving.models.loader import Loader
from serving.models.saved_model import SavedModel
from serving.models.versions import (
    State,
    Status,
    Version,
    choose_versions,
    find_versions,
)

ModelConfig = model_server_config_pb2.ModelConfig

_MOST_ENDED = 100
"""Statuses of versions that are gone, kept for each model."""


class _Model:
    """One model: its settings and versions."""

    def __init__(self, config: ModelConfig):
        self.config = config
        self.labels: dict[str, int] = {}
        self.versions: dict[int, Version] = {}
        self.wanted: set[int] = set()
        self.dropped = False
        self.problem: str | None = None

    def available(self) -> list[int]:
        return sorted(
            number
            for number, version in self.versions.items()
            if version.state is State.AVAILABLE
        )


class Models:
    """Loads what the config says, watches the base paths, and answers look-ups.

    A new version is loaded and warmed up before an old one goes; a version that fails
    to load leaves the old one serving.

    Args:
        loader: makes models of folders, and gives their memory back.
        load_threads, unload_threads: versions loaded, and unloaded, at once.
        load_retries: further attempts to load a version.
        retry_seconds: between them.
        labels_for_unavailable: labels that are not in use may name versions that are
            not available.
    """

    def __init__(
        self,
        loader: Loader,
        *,
        load_threads: int = 1,
        unload_threads: int = 1,
        load_retries: int = 5,
        retry_seconds: float = 60.0,
        labels_for_unavailable: bool = False,
    ):
        self._loader = loader
        self._retries, self._retry_seconds = load_retries, retry_seconds
        self._labels_for_unavailable = labels_for_unavailable
        self._models: dict[str, _Model] = {}
        self._leaving: list[_Model] = []
        self._lock = threading.RLock()
        self._configuring = threading.Lock()
        # What one look at the base paths found must not be acted on after a later one,
        # or under another config.
        self._polling = threading.RLock()
        self._progress = threading.Condition(self._lock)
        self._pool = concurrent.futures.ThreadPoolExecutor(
            max(1, load_threads), "load-model"
        )
        self._unloading = concurrent.futures.ThreadPoolExecutor(
            max(1, unload_threads), "unload-model"
        )
        self._ended = threading.Event()
        self._poller: threading.Thread | None = None

    def configure(self, configs: Sequence[ModelConfig]) -> None:
        """Serves these models from now on; one that is left out is unloaded.

        Returns when every wanted version is available or has failed.

        Raises:
            ServingError: INVALID_ARGUMENT, nothing has changed; or
                FAILED_PRECONDITION, labels are as they were.
        """
        check_configs(configs)
        with self._configuring:
            with self._polling:
                self._replace(configs)
                self.poll()
            self._wait_until_settled()
            with self._lock:
                self._set_labels(configs)

    def _replace(self, configs: Sequence[ModelConfig]) -> None:
        with self._lock:
            before, self._models = self._models, {}
            for config in configs:
                model = before.pop(config.name, None) or _Model(config)
                model.config = config
                self._models[config.name] = model
            for model in before.values():
                model.dropped, model.wanted = True, set()
                self._leaving.append(model)

    def poll(self) -> None:
        """Looks at the base paths once and starts loading and unloading."""
        with self._polling:
            self._look()

    def _look(self) -> None:
        with self._lock:
            models = list(self._models.values())
        for model in models:
            try:
                found = find_versions(model.config.base_path)
            except ServingError as error:
                self._complain(model, error.message)
                continue
            with self._lock:
                if not model.dropped:
                    self._want(model, found)
        with self._lock:
            for model in [*self._models.values(), *self._leaving]:
                self._unload_unwanted(model)
            # Some retries may no longer be wanted.
            self._progress.notify_all()

    def start_polling(self, seconds: float) -> None:
        """Polls in the background until `close`."""

        def run():
            while not self._ended.wait(seconds):
                try:
                    self.poll()
                except Exception as error:  # The next poll may find things in order.
                    _say(f"Looking for versions failed: {error}")

        self._poller = threading.Thread(target=run, name="poll-models", daemon=True)
        self._poller.start()

    def close(self) -> None:
        """Unloads everything; requests under way finish first."""
        self._ended.set()
        with self._lock:
            self._progress.notify_all()
        if self._poller is not None:
            self._poller.join()
        self._pool.shutdown(wait=True)
        with self._lock:
            self._leaving += self._models.values()
            self._models = {}
            names = {model.config.name for model in self._leaving}
            for model in list(self._leaving):
                model.dropped, model.wanted = True, set()
                self._unload_unwanted(model)
        self._unloading.shutdown(wait=True)
        for name in names:
            self._loader.forget(name)

    @contextlib.contextmanager
    def using(self, spec: model_pb2.ModelSpec) -> Iterator[tuple[SavedModel, int]]:
        """The model that a request names, and its version; not unloaded meanwhile.

        Raises:
            ServingError: INVALID_ARGUMENT or NOT_FOUND.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        # The newest version may go between its being found and its being held: a newer
        # one is there then.
        for _ in range(3):
            version, asked = self._find(spec)
            model = version.take() if version else None
            if model is not None:
                break
        else:
            raise ServingError(
                Code.NOT_FOUND, f"Servable not found for request: {asked}"
            )
        try:
            yield model, version.number
        finally:
            version.give_back()

    def statuses(self, spec: model_pb2.ModelSpec) -> list[Status]:
        """The states of the versions that `spec` names; the newest first.

        Raises:
            ServingError: NOT_FOUND, there are none.
        """
        if not spec.name:
            raise invalid("ModelSpec has no name specified.")
        with self._lock:
            model = self._models.get(spec.name)
            found = (
                [version.status for version in model.versions.values()] if model else []
            )
            found += [
                version.status
                for gone in self._leaving
                if gone.config.name == spec.name
                for version in gone.versions.values()
            ]
            wanted = self._number(spec, model) if model else None
        if not found:
            raise ServingError(
                Code.NOT_FOUND, f"Could not find any versions of model {spec.name}"
            )
        if wanted is not None:
            found = [status for status in found if status.version == wanted]
            if not found:
                raise ServingError(
                    Code.NOT_FOUND,
                    f"Could not find version {wanted} of model {spec.name}",
                )
        return sorted(found, key=lambda status: -status.version)

    def knows(self, name: str) -> bool:
        """Whether the config has a model of that name."""
        return name in self._models

    def _find(self, spec: model_pb2.ModelSpec) -> tuple[Version | None, str]:
        with self._lock:
            model = self._models.get(spec.name)
            if model is None:
                number = spec.version.value if spec.HasField("version") else None
                return None, _asked(spec.name, number)
            number = self._number(spec, model)
            if number is None:
                available = model.available()
                newest = model.versions[available[-1]] if available else None
                return newest, _asked(spec.name, None)
            return model.versions.get(number), _asked(spec.name, number)

    def _number(self, spec: model_pb2.ModelSpec, model: _Model) -> int | None:
        if spec.HasField("version"):
            number = spec.version.value
            # Clients written for other servers send 0 for "any".
            return None if number == 0 and 0 not in model.versions else number
        if spec.version_label:
            if spec.version_label not in model.labels:
                raise invalid(
                    f"Unrecognized servable version label: {spec.version_label}"
                )
            return model.labels[spec.version_label]
        return None

    def _want(self, model: _Model, found: Mapping[int, str]) -> None:
        policy = model.config.model_version_policy
        model.wanted = choose_versions(found, policy)
        if model.wanted:
            model.problem = None
        else:
            self._complain(
                model,
                f"No versions of servable {model.config.name} found under base path "
                f"{model.config.base_path}",
            )
        for number in sorted(model.wanted):
            version = model.versions.get(number)
            # A version that came back after it was unloaded is loaded anew; one that
            # failed is tried again when its folder was away in between.
            if version is None or (version.state is State.END and not version.error):
                model.versions[number] = version = Version(number, found[number])
                self._pool.submit(self._load_version, model, version)
        for number in set(model.versions) - set(found):
            if model.versions[number].state is State.END:
                model.versions[number].error = None
        self._forget_old(model)

    def _load_version(self, model: _Model, version: Version) -> None:
        name = model.config.name
        try:
            if version.number not in model.wanted:
                version.state = State.END  # A newer one came while it waited.
                return
            version.load(
                lambda path: self._loader.load(name, path),
                retries=self._retries,
                wait=lambda: self._wait_for_retry(model, version),
            )
            if version.error is not None:
                _say(f"{name} version {version.number}: {version.error.message}")
            else:
                _say(f"{name} version {version.number} is available.")
        except BaseException as error:
            version.error = ServingError(
                Code.UNKNOWN, f"{type(error).__name__}: {error}"
            )
            _say(f"{name} version {version.number}: {version.error.message}")
            version.state = State.END
            raise
        finally:
            with self._lock:
                self._progress.notify_all()
                self._unload_unwanted(model)
        self._prepare(model)

    def _prepare(self, model: _Model) -> None:
        """For the next version; unless one that goes may leave its session."""
        with self._lock:
            leaving = {one.state for one in model.versions.values()} & {State.UNLOADING}
            available = model.available()
            if leaving or not available or self._ended.is_set():
                return
            version = model.versions[available[-1]]
            loaded = version.take()
        try:
            self._loader.prepare(model.config.name, loaded)
        except ServingError as error:
            _say(f"{model.config.name}, for the next version: {error.message}")
        finally:
            version.give_back()

    def _wait_for_retry(self, model: _Model, version: Version) -> bool:
        _say(
            f"{model.config.name} version {version.number}: {version.error.message}; "
            f"trying again in {self._retry_seconds:g} s."
        )

        def is_given_up() -> bool:
            return self._ended.is_set() or version.number not in model.wanted

        # The thread is one of few: a newer version must not wait behind a retry.
        with self._lock:
            return not self._progress.wait_for(is_given_up, self._retry_seconds)

    def _unload_unwanted(self, model: _Model) -> None:
        available = set(model.available())
        unwanted = available - model.wanted
        if model.wanted and unwanted == available:
            # The newest of the old ones answers until a new one does.
            unwanted -= set(sorted(available)[-1:])
        for number in unwanted:
            version = model.versions[number]
            # From here on no request finds it.
            version.state = State.UNLOADING
            self._unloading.submit(self._unload_version, model, version)
        if model.dropped and model in self._leaving:
            states = {version.state for version in model.versions.values()}
            if states <= {State.END}:
                self._leaving.remove(model)
                if not self._ended.is_set():
                    self._unloading.submit(self._loader.forget, model.config.name)

    def _unload_version(self, model: _Model, version: Version) -> None:
        name = model.config.name
        version.unload(lambda loaded: self._loader.unload(name, loaded))
        _say(f"{name} version {version.number} is unloaded.")
        with self._lock:
            self._progress.notify_all()
            # With the last one a model that was left out is gone.
            self._unload_unwanted(model)
        self._prepare(model)

    def _forget_old(self, model: _Model) -> None:
        ended = sorted(
            number
            for number, version in model.versions.items()
            if version.state is State.END and number not in model.wanted
        )
        for number in ended[:-_MOST_ENDED]:
            del model.versions[number]

    def _wait_until_settled(self) -> None:
        busy = (State.START, State.LOADING)
        with self._lock:
            self._progress.wait_for(
                lambda: (
                    not any(
                        version.state in busy
                        for model in self._models.values()
                        for version in model.versions.values()
                    )
                )
            )

    def _set_labels(self, configs: Sequence[ModelConfig]) -> None:
        if self._ended.is_set():
            return
        for config in configs:
            model = self._models[config.name]
            available = model.available()
            for label, number in config.version_labels.items():
                # A label in use does not move to where nothing answers.
                moves = model.labels.get(label, number) != number
                may_wait = self._labels_for_unavailable and not moves
                if number not in available and not may_wait:
                    raise ServingError(
                        Code.FAILED_PRECONDITION,
                        f"Request to assign label {label} to version {number} of model "
                        f"{config.name}, which is not currently available for "
                        "inference",
                    )
        for config in configs:
            self._models[config.name].labels = dict(config.version_labels)

    def _complain(self, model: _Model, problem: str) -> None:
        """Says it once, not at every poll."""
        if model.problem != problem:
            model.problem = problem
            _say(problem)


def check_configs(configs: Sequence[ModelConfig]) -> None:
    """Raises INVALID_ARGUMENT, with the model's name, for a config that cannot be."""
    names = [config.name for config in configs]
    for config in configs:
        if not config.name:
            raise invalid(f"A model in the config list has no name: {config}")
        if names.count(config.name) > 1:
            raise invalid(
                f"Illegal to list model {config.name} multiple times in config list"
            )
        if not (config.base_path.startswith("/") or "://" in config.base_path):
            raise invalid(
                f"Expected model {config.name} to have an absolute path or URI; got "
                f"base_path()={config.base_path}"
            )
        if config.model_platform not in ("", "tensorflow"):
            raise invalid(
                f"Model {config.name} has the platform {config.model_platform}, which "
                "is not known; expected tensorflow"
            )


def _asked(name: str, version: int | None) -> str:
    return f"Latest({name})" if version is None else f"Specific({name}, {version})"


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
