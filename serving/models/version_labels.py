"""Labels of versions: names such as `stable`, which clients ask for."""

from collections.abc import Sequence

from serving.errors import ServingError
from serving.models.catalog import Catalog
from serving.models.served_model import ModelConfig
from serving.status_codes import Code


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
        available = model.available()
        for label, number in config.version_labels.items():
            # A label in use does not move to where nothing answers.
            moves = model.labels.get(label, number) != number
            may_wait = for_unavailable and not moves
            if number not in available and not may_wait:
                raise ServingError(
                    Code.FAILED_PRECONDITION,
                    f"Request to assign label {label} to version {number} of model "
                    f"{config.name}, which is not currently available for "
                    "inference",
                )
    for config in configs:
        catalog.models[config.name].labels = dict(config.version_labels)
