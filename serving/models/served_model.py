"""A model that the config names, with its settings, labels and versions."""

from tensorflow_serving.config import model_server_config_pb2

from serving.models.versions import ModelVersion, VersionState, VersionStatus

ModelConfig = model_server_config_pb2.ModelConfig

_MOST_ENDED = 100
"""Statuses of versions that are gone, kept for each model."""


class ServedModel:
    """A model's settings, and its versions by their number.

    All of it is read and changed under the lock of the `Catalog` that has the model.

    Args:
        config: the model's entry in the server's config, replaced when that changes.

    Attributes:
        wanted: the versions that the config and the base path ask for.
        held: versions that stay until a change of the config is done with.
        has_served: a version of it has been available.
        dropped: the config has left it out.
        problem: why no versions are looked for or found, as it was said last.
    """

    def __init__(self, config: ModelConfig):
        self.config = config
        self.labels: dict[str, int] = {}
        self.versions: dict[int, ModelVersion] = {}
        self.wanted: set[int] = set()
        self.held: set[int] = set()
        self.has_served = False
        self.dropped = False
        self.problem: str | None = None

    def statuses(self) -> list[VersionStatus]:
        """The states of all its versions."""
        return [version.status for version in self.versions.values()]

    def available(self) -> list[int]:
        """The versions that answer requests, the newest last."""
        return sorted(
            number
            for number, version in self.versions.items()
            if version.state is VersionState.AVAILABLE
        )

    def drop(self) -> None:
        """Notes that the config has left the model out: no version is wanted."""
        self.dropped, self.wanted, self.held = True, set(), set()

    def forget_ended(self) -> None:
        """Forgets the oldest of the versions that are gone, if they are many."""
        ended = sorted(
            number
            for number, version in self.versions.items()
            if version.state is VersionState.END and number not in self.wanted
        )
        for number in ended[:-_MOST_ENDED]:
            del self.versions[number]
