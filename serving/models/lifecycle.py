"""The lifecycle of models: what the config and the base paths say is served."""

import dataclasses
import os
import threading
from collections.abc import Mapping, Sequence

from serving.command import say
from serving.errors import ServingError, invalid
from serving.models.catalog import Catalog
from serving.models.loader import Loader
from serving.models.model_configs import check_configs
from serving.models.served_model import ModelConfig, ServedModel
from serving.models.version_labels import assign_labels, check_labels
from serving.models.version_switch import VersionSwitch
from serving.models.versions import (
    ModelVersion,
    VersionState,
    choose_versions,
    find_versions,
    is_version,
)


@dataclasses.dataclass(frozen=True)
class Unavailable:
    """A model that is new in the config, and of which no version answers.

    Args:
        version: one that could not be loaded; None if there is none.
        reason: what was wrong with it, or why there is none.
    """

    name: str
    version: int | None
    reason: str

    def __str__(self) -> str:
        version = "" if self.version is None else f" version: {self.version}"
        return f"{{name: {self.name}{version}}} due to error: {self.reason}"


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
        self._configured = False
        self._said: set[str] = set()
        # What one look at the base paths found must not be acted on after a later one,
        # or under another config.
        self._polling = threading.RLock()
        self._poller: threading.Thread | None = None

    def configure(self, configs: Sequence[ModelConfig]) -> list[Unavailable]:
        """Serves these models from now on; one that is left out is unloaded.

        Returns when every wanted version is available or has failed.

        Returns:
            the new models that do not answer; they are in the catalog all the same,
            and their base paths are looked at again.

        Raises:
            ServingError: INVALID_ARGUMENT or FAILED_PRECONDITION, nothing has changed;
                or FAILED_PRECONDITION, a label's version could not be loaded: labels
                are as they were, and their versions answer.
        """
        check_configs(configs)
        for config in configs:
            if config.HasField("logging_config") and config.name not in self._said:
                self._said.add(config.name)
                say(f"logging_config of model {config.name} has no effect here.")
        with self._configuring:
            with self._polling:
                new = self._replace(configs)
            self._switch.wait_until_settled()
            if not self._configured:
                self._configured = True
                self._switch.end_first()
            with self._catalog.lock:
                if self._switch.ended.is_set():
                    return []
                assign_labels(
                    self._catalog,
                    configs,
                    for_unavailable=self._labels_for_unavailable,
                )
                for model in self._catalog.models.values():
                    model.held = set()
                self._switch.unload_unwanted()
                return [
                    unavailable for name in new for unavailable in self._missing(name)
                ]

    def poll(self) -> None:
        """Looks at the base paths once and starts loading and unloading."""
        with self._polling:
            with self._catalog.lock:
                models = list(self._catalog.models.values())
            self._act(models, {m.config.name: _look(m.config) for m in models})

    def wait_until_served(self) -> bool:
        """Returns when every model has had a version; False if that is given up."""
        return self._switch.wait_until_served()

    def have_served(self) -> bool:
        """Whether every model of the config has had a version that answered."""
        return self._switch.have_served()

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

    def _replace(self, configs: Sequence[ModelConfig]) -> list[str]:
        """Starts serving the models of `configs`; returns the names of new ones."""
        looked = {config.name: _look(config) for config in configs}
        for config in configs:
            if looked[config.name] == {} and is_version(config.base_path):
                raise invalid(_not_a_base_path(config))
        with self._catalog.lock:
            before = dict(self._catalog.models)
            wanted = {}
            for config in configs:
                folders, model = looked[config.name], before.get(config.name)
                if isinstance(folders, ServingError):
                    wanted[config.name] = model.wanted if model else ()
                    continue
                policy = config.model_version_policy
                wanted[config.name] = choose_versions(folders, policy)
            check_labels(
                self._catalog,
                configs,
                wanted,
                for_unavailable=self._labels_for_unavailable,
            )
            self._catalog.replace(configs)
            models = list(self._catalog.models.values())
            for model in models:
                # Labels move when the versions are there; they answer until then.
                model.held = set(model.labels.values())
            self._act(models, looked)
        return [config.name for config in configs if config.name not in before]

    def _act(self, models: Sequence[ServedModel], looked: Mapping) -> None:
        """Acts on what was found at the base paths: model's name -> that of `_look`."""
        for model in models:
            folders = looked[model.config.name]
            if isinstance(folders, ServingError):
                _complain(model, folders.message)
                continue
            with self._catalog.lock:
                if not model.dropped:
                    self._want(model, folders)
        self._switch.unload_unwanted()

    def _missing(self, name: str) -> list[Unavailable]:
        """Why the model `name` does not answer; nothing if it does."""
        model = self._catalog.models[name]
        if model.available():
            return []
        failed = [
            Unavailable(name, number, version.error.message)
            for number, version in sorted(model.versions.items())
            if version.error is not None
        ]
        return failed or [Unavailable(name, None, model.problem or "no version")]

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
        # The newest is what most requests wait for.
        for number in sorted(model.wanted, reverse=True):
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


def _look(config: ModelConfig) -> dict[int, str] | ServingError:
    """The versions below the model's base path, or why they are not known."""
    try:
        return find_versions(config.base_path)
    except ServingError as error:
        return error


def _not_a_base_path(config: ModelConfig) -> str:
    return (
        f"Base path {config.base_path} of model {config.name} is itself a version: it "
        "has a SavedModel in it. Expected the folder that holds the versions, "
        f"{os.path.dirname(config.base_path.rstrip('/'))}"
    )


def _complain(model: ServedModel, problem: str) -> None:
    """Says what is wrong with the model once, not at every poll."""
    if model.problem != problem:
        model.problem = problem
        say(problem)
