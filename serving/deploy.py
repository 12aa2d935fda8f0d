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

from serving.command import UserError, run_command
from serving.tools.deployment import SETTINGS, Deployment


def main(argv: Sequence[str] | None = None) -> int:
    arguments = vars(_parser().parse_args(argv))
    folder = arguments.pop("out")
    deployment = Deployment(**arguments)
    if os.path.isfile(folder):
        raise UserError(f"--out must be a folder. Received: {folder!r}, a file")
    # TensorFlow takes seconds to import: --help and wrong flags do not wait for it.
    from serving.tools.deployment_files import write_files

    for path in write_files(deployment, folder):
        print(f"Wrote {path}")
    print(
        f"Try them:  docker compose -f {folder}/docker-compose.yaml up\n"
        f"           kubectl apply --dry-run=server -f {folder}/kubernetes.yaml"
    )
    return 0


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
