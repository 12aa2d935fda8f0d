"""The catalog of models: which model and version answer a request.

A request names a model, and perhaps a version of it or a label. What changes the
catalog is in `lifecycle` and `version_switch`.
"""

import contextlib
import threading
from collections.abc import Iterator, Sequence

from tensorflow_serving.apis import model_pb2

from serving.errors import ServingError, invalid
from serving.models.saved_model import SavedModel
from serving.models.served_model import ModelConfig, ServedModel
from serving.models.versions import ModelVersion, VersionStatus
from serving.status_codes import Code

_MOST_GONE = 100
"""Models that were left out whose last statuses are kept."""


class Catalog:
    """The models of a server, looked up by name, version or label.

    Attributes:
        lock: held by whoever reads or changes the models and their versions.
        models: name -> model, of those that the config has.
        leaving: models that the config has left out, until their versions are gone.
        gone: name -> the statuses that models which were left out ended with.
    """

    def __init__(self):
        self.lock = threading.RLock()
        self.models: dict[str, ServedModel] = {}
        self.leaving: list[ServedModel] = []
        self.gone: dict[str, list[VersionStatus]] = {}

    def replace(self, configs: Sequence[ModelConfig]) -> None:
        """Has the models of `configs` and no others; those that stay keep all else."""
        with self.lock:
            before, self.models = self.models, {}
            for config in configs:
                model = before.pop(config.name, None) or ServedModel(config)
                model.config = config
                self.models[config.name] = model
            for model in before.values():
                model.drop()
                self.leaving.append(model)

    def drop_all(self) -> list[ServedModel]:
        """Leaves all models out; returns them and those that were leaving before."""
        with self.lock:
            self.leaving += self.models.values()
            self.models = {}
            for model in self.leaving:
                model.drop()
            return list(self.leaving)

    def leave(self, model: ServedModel) -> None:
        """Keeps nothing of a model that was leaving but its last statuses."""
        with self.lock:
            self.leaving.remove(model)
            self.gone.pop(model.config.name, None)
            self.gone[model.config.name] = model.statuses()
            for name in list(self.gone)[:-_MOST_GONE]:
                del self.gone[name]

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

    def statuses(self, spec: model_pb2.ModelSpec) -> list[VersionStatus]:
        """The states of the versions that `spec` names; the newest first.

        Raises:
            ServingError: NOT_FOUND, there are none.
        """
        with self.lock:
            model = self.models.get(spec.name)
            leaving = [gone for gone in self.leaving if gone.config.name == spec.name]
            latest = {
                status.version: status
                for statuses in (
                    self.gone.get(spec.name, []),
                    *(gone.statuses() for gone in leaving),
                    model.statuses() if model else [],
                )
                for status in statuses
            }
            statuses = list(latest.values())
            if model is not None:
                wanted = _number(spec, model)
            else:
                wanted = spec.version.value if spec.HasField("version") else None
        if not statuses:
            raise ServingError(
                Code.NOT_FOUND, f"Could not find any versions of model {spec.name}"
            )
        if wanted is not None:
            statuses = [status for status in statuses if status.version == wanted]
            if not statuses:
                raise ServingError(
                    Code.NOT_FOUND,
                    f"Could not find version {wanted} of model {spec.name}",
                )
        return sorted(statuses, key=lambda status: -status.version)

    def knows(self, name: str) -> bool:
        """Whether the config has a model of that name."""
        return name in self.models

    def _find(self, spec: model_pb2.ModelSpec) -> tuple[ModelVersion | None, str]:
        """The version that `spec` names, if there is one, and what that was."""
        with self.lock:
            model = self.models.get(spec.name)
            if model is None:
                number = spec.version.value if spec.HasField("version") else None
                return None, _asked(spec.name, number)
            number = _number(spec, model)
            if number is None:
                available = model.available()
                newest = model.versions[available[-1]] if available else None
                return newest, _asked(spec.name, None)
            return model.versions.get(number), _asked(spec.name, number)


def _number(spec: model_pb2.ModelSpec, model: ServedModel) -> int | None:
    """The version that `spec` asks for by number or label; None for the newest."""
    if spec.HasField("version"):
        number = spec.version.value
        # Clients written for other servers send 0 for "any".
        return None if number == 0 and 0 not in model.versions else number
    if spec.version_label:
        if spec.version_label not in model.labels:
            raise invalid(f"Unrecognized servable version label: {spec.version_label}")
        return model.labels[spec.version_label]
    return None


def _asked(name: str, version: int | None) -> str:
    return f"Latest({name})" if version is None else f"Specific({name}, {version})"
