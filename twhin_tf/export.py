"""Exports the vectors of a checkpoint: files, a plot, and models that find neighbours.

    python -m twhin_tf.export --config configs/twhin_tiny.gin --checkpoint runs/twhin \\
        --out exported
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core import files
from recap_tf.core.command import run_command
from recap_tf.core.training import checkpoints
from twhin_tf.exporting.export_folder import VectorExportSettings, export_vectors
from twhin_tf.training import trained


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.export",
        description="Exports the vectors of a checkpoint of graph embeddings.",
    )
    trained.add_arguments(parser)
    parser.add_argument("--out", required=True, metavar="DIR", help="where to")
    arguments = parser.parse_args(argv)
    files.check_writable("--out", arguments.out)
    _, graph, model, path = trained.load_trained(arguments)
    step = checkpoints.step_of(path)
    export_vectors(model, graph, arguments.out, VectorExportSettings(), step)


if __name__ == "__main__":
    sys.exit(run_command(main))
