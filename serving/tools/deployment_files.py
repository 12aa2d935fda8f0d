"""The files that `serving.deploy` writes, each headed by the command that makes it."""

import os
from collections.abc import Iterator

import yaml

from serving.files import write_text
from serving.tools import manifests
from serving.tools.deployment import Deployment
from serving.tools.server_configs import config_files


def write_files(deployment: Deployment, folder: str) -> Iterator[str]:
    """Writes the files of a deployment; yields the path of each that is written."""
    for name, text in files(deployment).items():
        path = os.path.join(folder, name)
        write_text(path, text)
        yield path


def files(deployment: Deployment) -> dict[str, str]:
    """File name -> text, of everything that is written."""
    head = (
        "# Do not change this file; it is made by\n"
        f"#   {deployment.command()} --out DIR\n"
    )
    texts = config_files(deployment) | {
        "docker-compose.yaml": _yaml(manifests.compose(deployment)),
        "kubernetes.yaml": "---\n".join(map(_yaml, manifests.kubernetes(deployment))),
    }
    return {name: head + text for name, text in texts.items()}


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and repeats what occurs twice."""

    def ignore_aliases(self, data) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    style = "|" if "\n" in text else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _text)


def _yaml(manifest: manifests.Manifest) -> str:
    return yaml.dump(manifest, Dumper=_Dumper, sort_keys=False, width=1000)
