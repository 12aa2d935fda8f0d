"""Settings of models, checked before anything is changed for them."""

from collections.abc import Sequence

from google.protobuf import text_format

from serving.errors import invalid
from serving.models.served_model import ModelConfig


def check_configs(configs: Sequence[ModelConfig]) -> None:
    """Raises INVALID_ARGUMENT, with the model's name, for a config that cannot be."""
    names = [config.name for config in configs]
    for config in configs:
        if not config.name:
            text = text_format.MessageToString(config, as_one_line=True)
            raise invalid(f"A model in the config list has no name: {text}")
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
