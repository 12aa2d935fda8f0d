"""The config files of a deployment, which the server's flags name."""

import dataclasses

from google.protobuf import message, text_format

from serving.fronts import text_configs
from serving.tools.deployment import METRICS_PATH, Deployment


def config_files(deployment: Deployment) -> dict[str, str]:
    """File name -> text, of the files that the server's flags name."""
    config = text_configs.ModelServerConfig()
    model = config.model_config_list.config.add(
        name=deployment.served_name,
        base_path=deployment.served_path,
        model_platform="tensorflow",
    )
    model.model_version_policy.latest.num_versions = deployment.versions
    monitoring = text_configs.MonitoringConfig()
    monitoring.prometheus_config.enable = True
    monitoring.prometheus_config.path = METRICS_PATH
    files = {"models.config": config, "monitoring.config": monitoring}
    if deployment.batching:
        files["batching.config"] = _batching_parameters(deployment)
    return {name: text_format.MessageToString(m) for name, m in files.items()}


def _batching_parameters(deployment: Deployment) -> message.Message:
    parameters = text_configs.BatchingParameters()
    for name, value in dataclasses.asdict(deployment.batch_settings()).items():
        if name == "thread_pool_name" or value == 0:
            continue
        if name == "allowed_batch_sizes":
            parameters.allowed_batch_sizes.extend(value)
        elif name == "pad_variable_length_inputs":
            parameters.pad_variable_length_inputs = value
        else:
            getattr(parameters, name).value = value
    return parameters
