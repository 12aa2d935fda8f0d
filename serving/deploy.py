"""Writes the files that serve an export with TF Serving's image in production.

    python -m serving.deploy --name ranker --models-folder $PWD/models/mine --out deploy

`deploy/` then holds models.config, monitoring.config and batching.config, which the
server's flags name; docker-compose.yaml; and kubernetes.yaml. All follow from the
command's flags, which stand at the head of each.
"""

import argparse
import dataclasses
import os
import sys
from collections.abc import Sequence

import yaml

from serving.command import UserError, run_command
from serving.files import write_text
from serving.tools import manifests
from serving.tools.deployment import SETTINGS, Deployment


def main(argv: Sequence[str] | None = None) -> int:
    arguments = vars(_parser().parse_args(argv))
    folder = arguments.pop("out")
    deployment = Deployment(**arguments)
    if os.path.isfile(folder):
        raise UserError(f"--out must be a folder. Received: {folder!r}, a file")
    for name, text in files(deployment).items():
        path = os.path.join(folder, name)
        write_text(path, text)
        print(f"Wrote {path}")
    print(
        f"Try them:  docker compose -f {folder}/docker-compose.yaml up\n"
        f"           kubectl apply --dry-run=server -f {folder}/kubernetes.yaml"
    )
    return 0


def files(deployment: Deployment) -> dict[str, str]:
    """File name -> text, of everything that is written."""
    head = (
        "# Do not change this file; it is made by\n"
        f"#   {deployment.command()} --out DIR\n"
    )
    texts = deployment.config_files() | {
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.deploy",
        description="Writes config files, docker compose and Kubernetes manifests for "
        "TF Serving's image.",
    )
    parser.add_argument("--out", required=True, metavar="DIR", help="to write to")
    for field in dataclasses.fields(Deployment):
        kind = SETTINGS[field.name]
        options = {"type": kind, "metavar": kind.__name__.upper()}
        if kind is bool:
            options = {"action": argparse.BooleanOptionalAction}
        parser.add_argument(
            f"--{field.name.replace('_', '-')}",
            default=field.default,
            required=field.name == "name",
            help=f"{field.metadata['help']} (default: {field.default!r})".replace(
                "%", "%%"
            ),
            **options,
        )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
