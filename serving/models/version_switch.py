"""The switch from a served version to the next: load, warm up, then unload the old."""

import concurrent.futures
import os
import threading

from serving.command import say
from serving.errors import ServingError
from serving.models.catalog import Catalog
from serving.models.loader import Loader
from serving.models.served_model import ServedModel
from serving.models.versions import ModelVersion, VersionState
from serving.status_codes import Code


class VersionSwitch:
    """Loads and unloads versions in the background, as their models want them.

    A new version is loaded and warmed up before an old one goes; a version that fails
    to load leaves the old one serving.

    Args:
        catalog: has the models; its lock guards all that is decided here.
        loader: makes models of folders, and gives their memory back.
        load_threads, unload_threads: versions loaded, and unloaded, at once.
        load_retries: further attempts to load a version.
        retry_seconds: time between two attempts.

    Attributes:
        ended: set when no more versions are to come.
    """

    def __init__(
        self,
        catalog: Catalog,
        loader: Loader,
        *,
        load_threads: int,
        unload_threads: int,
        load_retries: int,
        retry_seconds: float,
    ):
        self.ended = threading.Event()
        self._catalog, self._loader = catalog, loader
        self._retries, self._retry_seconds = load_retries, retry_seconds
        self._progress = threading.Condition(catalog.lock)
        self._load_threads = max(1, load_threads)
        # Nothing is served yet that loading could slow down.
        self._loading = concurrent.futures.ThreadPoolExecutor(
            max(self._load_threads, 4 * (os.cpu_count() or 1)), "load-model"
        )
        self._unloading = concurrent.futures.ThreadPoolExecutor(
            max(1, unload_threads), "unload-model"
        )

    def load(self, model: ServedModel, version: ModelVersion) -> None:
        """Starts loading `version`; the old ones go when it is available."""
        self._loading.submit(self._load, model, version)

    def unload_unwanted(self) -> None:
        """Starts unloading what is not wanted, and gives up retries of the same."""
        with self._catalog.lock:
            for model in [*self._catalog.models.values(), *self._catalog.leaving]:
                self._unload_unwanted(model)
            # Some retries may no longer be wanted.
            self._progress.notify_all()

    def wait_until_settled(self) -> None:
        """Returns when every version is available, or has failed, or is to go."""
        busy = (VersionState.START, VersionState.LOADING)
        with self._catalog.lock:
            self._progress.wait_for(
                lambda: (
                    not any(
                        version.state in busy
                        for model in self._catalog.models.values()
                        for version in model.versions.values()
                    )
                )
            )

    def end_first(self) -> None:
        """From now on loads as many versions at once as it was told, and no more."""
        with self._catalog.lock:
            first, self._loading = (
                self._loading,
                concurrent.futures.ThreadPoolExecutor(self._load_threads, "load-model"),
            )
        first.shutdown(wait=False)

    def wait_until_served(self) -> bool:
        """Returns when every model has had a version; False if that is given up."""
        with self._catalog.lock:
            self._progress.wait_for(lambda: self.ended.is_set() or self.have_served())
        return not self.ended.is_set()

    def have_served(self) -> bool:
        """Whether every model of the config has had a version that answered."""
        with self._catalog.lock:
            return all(model.has_served for model in self._catalog.models.values())

    def end(self) -> None:
        """Gives up retries; nothing is made ready for next versions any more."""
        self.ended.set()
        with self._catalog.lock:
            self._progress.notify_all()

    def close(self) -> None:
        """Unloads everything, after `end`; requests under way finish first."""
        self._loading.shutdown(wait=True)
        with self._catalog.lock:
            models = self._catalog.drop_all()
            for model in models:
                self._unload_unwanted(model)
        self._unloading.shutdown(wait=True)
        for name in {model.config.name for model in models}:
            self._loader.forget(name)

    def _load(self, model: ServedModel, version: ModelVersion) -> None:
        name = model.config.name
        try:
            if version.number not in model.wanted:
                version.state = VersionState.END  # A newer one came while it waited.
                return
            version.load(
                lambda path: self._loader.load(name, path),
                retries=self._retries,
                wait=lambda: self._wait_for_retry(model, version),
            )
            if version.error is not None:
                say(f"{name} version {version.number}: {version.error.message}")
            else:
                model.has_served = True
                say(f"{name} version {version.number} is available.")
        except BaseException as error:
            version.error = ServingError(
                Code.UNKNOWN, f"{type(error).__name__}: {error}"
            )
            say(f"{name} version {version.number}: {version.error.message}")
            version.state = VersionState.END
            raise
        finally:
            with self._catalog.lock:
                self._progress.notify_all()
                self._unload_unwanted(model)
        self._prepare(model)

    def _wait_for_retry(self, model: ServedModel, version: ModelVersion) -> bool:
        say(
            f"{model.config.name} version {version.number}: {version.error.message}; "
            f"trying again in {self._retry_seconds:g} s."
        )

        def is_given_up() -> bool:
            return self.ended.is_set() or version.number not in model.wanted

        # The thread is one of few: a newer version must not wait behind a retry.
        with self._catalog.lock:
            return not self._progress.wait_for(is_given_up, self._retry_seconds)

    def _unload_unwanted(self, model: ServedModel) -> None:
        available = set(model.available())
        unwanted = available - model.wanted
        if model.wanted and unwanted == available:
            # The newest of the old ones answers until a new one does.
            unwanted -= set(sorted(available)[-1:])
        unwanted -= model.held
        for number in unwanted:
            version = model.versions[number]
            # From here on no request finds it.
            version.state = VersionState.UNLOADING
            self._unloading.submit(self._unload, model, version)
        if model.dropped and model in self._catalog.leaving:
            states = {version.state for version in model.versions.values()}
            if states <= {VersionState.END}:
                self._catalog.leave(model)
                if not self.ended.is_set():
                    self._unloading.submit(self._loader.forget, model.config.name)

    def _unload(self, model: ServedModel, version: ModelVersion) -> None:
        name = model.config.name
        version.unload(lambda loaded: self._loader.unload(name, loaded))
        say(f"{name} version {version.number} is unloaded.")
        with self._catalog.lock:
            self._progress.notify_all()
            # With the last one a model that was left out is gone.
            self._unload_unwanted(model)
        self._prepare(model)

    def _prepare(self, model: ServedModel) -> None:
        """Makes the next version a session, unless one that goes may leave its own."""
        with self._catalog.lock:
            states = {version.state for version in model.versions.values()}
            available = model.available()
            is_leaving = VersionState.UNLOADING in states
            if is_leaving or not available or self.ended.is_set():
                return
            version = model.versions[available[-1]]
            loaded = version.take()
        try:
            self._loader.prepare(model.config.name, loaded)
        except ServingError as error:
            say(f"{model.config.name}, for the next version: {error.message}")
        finally:
            version.give_back()
