"""Exports the vectors of a checkpoint: files, a plot, and models that find neighbours.

    python -m twhin_tf.export --config configs/twhin_tiny.gin --checkpoint runs/twhin \\
        --out exported
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core.arguments import add_checkpoint, add_config, check_config
from recap_tf.core.command import run_command


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    check_config(arguments.config)

    from recap_tf.core import files
    from recap_tf.core.training import checkpoints
    from twhin_tf.exporting.export_folder import VectorExportSettings, export_vectors
    from twhin_tf.training import trained

    files.check_writable("--out", arguments.out)
    _, graph, model, path = trained.load_trained(arguments)
    step = checkpoints.step_of(path)
    export_vectors(model, graph, arguments.out, VectorExportSettings(), step)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.export",
        description="Exports the vectors of a checkpoint of graph embeddings.",
    )
    add_config(parser)
    add_checkpoint(parser, best=False)
    parser.add_argument("--out", required=True, metavar="DIR", help="where to")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
