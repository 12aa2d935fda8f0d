"""A model that the config names, with its settings, labels and versions."""

from tensorflow_serving.config import model_server_config_pb2

from serving.models.versions import ModelVersion, VersionState

ModelConfig = model_server_config_pb2.ModelConfig

_MOST_ENDED = 100
"""Statuses of versions that are gone, kept for each model."""


class ServedModel:
    """A model's settings, and its versions by their number.

    All of it is read and changed under the lock of the `Catalog` that has the model.

    Args:
        config: the model's entry in the server's config, replaced when that changes.
    """

    def __init__(self, config: ModelConfig):
        self.config = config
        self.labels: dict[str, int] = {}
        self.versions: dict[int, ModelVersion] = {}
        self.wanted: set[int] = set()
        self.dropped = False
        self.problem: str | None = None

    def available(self) -> list[int]:
        """The versions that answer requests, the newest last."""
        return sorted(
            number
            for number, version in self.versions.items()
            if version.state is VersionState.AVAILABLE
        )

    def drop(self) -> None:
        """Notes that the config has left the model out: no version is wanted."""
        self.dropped, self.wanted = True, set()

    def forget_ended(self) -> None:
        """Forgets the oldest of the versions that are gone, if they are many."""
        ended = sorted(
            number
            for number, version in self.versions.items()
            if version.state is VersionState.END and number not in self.wanted
        )
        for number in ended[:-_MOST_ENDED]:
            del self.versions[number]
