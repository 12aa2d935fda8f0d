"""The lifecycle of models: what the config and the base paths say is served."""

import threading
from collections.abc import Mapping, Sequence

from serving.command import say
from serving.errors import ServingError
from serving.models.catalog import Catalog
from serving.models.loader import Loader
from serving.models.model_configs import check_configs
from serving.models.served_model import ModelConfig, ServedModel
from serving.models.version_labels import assign_labels
from serving.models.version_switch import VersionSwitch
from serving.models.versions import (
    ModelVersion,
    VersionState,
    choose_versions,
    find_versions,
)


class Lifecycle:
    """Has the models of the config served, in the versions that their folders hold.

    Looks at the base paths again and again, and leaves it to a `VersionSwitch` to load
    what has come and to unload what has gone.

    Args:
        catalog: gets the models; requests are looked up there.
        loader: makes models of folders, and gives their memory back.
        load_threads, unload_threads: versions loaded, and unloaded, at once.
        load_retries: further attempts to load a version.
        retry_seconds: time between two attempts.
        labels_for_unavailable: labels that are not in use may name versions that are
            not available.
    """

    def __init__(
        self,
        catalog: Catalog,
        loader: Loader,
        *,
        load_threads: int = 1,
        unload_threads: int = 1,
        load_retries: int = 5,
        retry_seconds: float = 60.0,
        labels_for_unavailable: bool = False,
    ):
        self._catalog = catalog
        self._switch = VersionSwitch(
            catalog,
            loader,
            load_threads=load_threads,
            unload_threads=unload_threads,
            load_retries=load_retries,
            retry_seconds=retry_seconds,
        )
        self._labels_for_unavailable = labels_for_unavailable
        self._configuring = threading.Lock()
        # What one look at the base paths found must not be acted on after a later one,
        # or under another config.
        self._polling = threading.RLock()
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
                self._catalog.replace(configs)
                self.poll()
            self._switch.wait_until_settled()
            with self._catalog.lock:
                if not self._switch.ended.is_set():
                    assign_labels(
                        self._catalog,
                        configs,
                        for_unavailable=self._labels_for_unavailable,
                    )

    def poll(self) -> None:
        """Looks at the base paths once and starts loading and unloading."""
        with self._polling:
            with self._catalog.lock:
                models = list(self._catalog.models.values())
            for model in models:
                try:
                    folders = find_versions(model.config.base_path)
                except ServingError as error:
                    _complain(model, error.message)
                    continue
                with self._catalog.lock:
                    if not model.dropped:
                        self._want(model, folders)
            self._switch.unload_unwanted()

    def start_polling(self, seconds: float) -> None:
        """Polls in the background until `close`."""

        def run():
            while not self._switch.ended.wait(seconds):
                try:
                    self.poll()
                except Exception as error:  # The next poll may find things in order.
                    say(f"Looking for versions failed: {error}")

        self._poller = threading.Thread(target=run, name="poll-models", daemon=True)
        self._poller.start()

    def close(self) -> None:
        """Unloads everything; requests under way finish first."""
        self._switch.end()
        if self._poller is not None:
            self._poller.join()
        self._switch.close()

    def _want(self, model: ServedModel, folders: Mapping[int, str]) -> None:
        """Has the versions loaded that the model's policy chooses of `folders`."""
        policy = model.config.model_version_policy
        model.wanted = choose_versions(folders, policy)
        if model.wanted:
            model.problem = None
        else:
            _complain(
                model,
                f"No versions of servable {model.config.name} found under base path "
                f"{model.config.base_path}",
            )
        for number in sorted(model.wanted):
            version = model.versions.get(number)
            # A version that came back after it was unloaded is loaded anew; one that
            # failed is tried again when its folder was away in between.
            if version is None or (
                version.state is VersionState.END and not version.error
            ):
                version = ModelVersion(number, folders[number])
                model.versions[number] = version
                self._switch.load(model, version)
        for number in set(model.versions) - set(folders):
            if model.versions[number].state is VersionState.END:
                model.versions[number].error = None
        model.forget_ended()


def _complain(model: ServedModel, problem: str) -> None:
    """Says what is wrong with the model once, not at every poll."""
    if model.problem != problem:
        model.problem = problem
        say(problem)
