"""Labels of versions: names such as `stable`, which clients ask for."""

from collections.abc import Collection, Mapping, Sequence

from serving.errors import ServingError
from serving.models.catalog import Catalog
from serving.models.served_model import ModelConfig, ServedModel
from serving.models.versions import VersionState
from serving.status_codes import Code


def check_labels(
    catalog: Catalog,
    configs: Sequence[ModelConfig],
    wanted: Mapping[str, Collection[int]],
    *,
    for_unavailable: bool,
) -> None:
    """Raises unless every label is on a version that is available or to be loaded.

    The caller holds the catalog's lock.

    Args:
        catalog: as it is before the models of `configs` are put there.
        wanted: model -> versions that are served under `configs`.
        for_unavailable: as of `assign_labels`.

    Raises:
        ServingError: FAILED_PRECONDITION.
    """
    for config in configs:
        model = catalog.models.get(config.name)
        numbers = {n for n in wanted[config.name] if not _has_failed(model, n)}
        _check(config, model, numbers, for_unavailable)


def _has_failed(model: ServedModel | None, number: int) -> bool:
    version = model.versions.get(number) if model else None
    return version is not None and version.state is VersionState.END and version.error


def assign_labels(
    catalog: Catalog, configs: Sequence[ModelConfig], *, for_unavailable: bool
) -> None:
    """Gives the models the labels of `configs`, all of them or none.

    The caller holds the catalog's lock.

    Args:
        catalog: has a model for each of `configs`.
        for_unavailable: labels that are not in use may name versions that are not
            available.

    Raises:
        ServingError: FAILED_PRECONDITION, a version is not available.
    """
    for config in configs:
        model = catalog.models[config.name]
        _check(config, model, model.available(), for_unavailable)
    for config in configs:
        catalog.models[config.name].labels = dict(config.version_labels)


def _check(
    config: ModelConfig,
    model: ServedModel | None,
    numbers: Collection[int],
    for_unavailable: bool,
) -> None:
    for label, number in config.version_labels.items():
        # A label in use does not move to where nothing answers.
        moves = model is not None and model.labels.get(label, number) != number
        may_wait = for_unavailable and not moves
        if number not in numbers and not may_wait:
            raise ServingError(
                Code.FAILED_PRECONDITION,
                f"Request to assign label {label} to version {number} of model "
                f"{config.name}, which is not currently available for inference",
            )
