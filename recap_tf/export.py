"""Exports a checkpoint of a ranker as the next version of a served model.

    python -m recap_tf.export --config configs/recap.gin --checkpoint runs/recap \\
        --out models/recap
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf import settings
from recap_tf.core import checkpoints, config
from recap_tf.core.command import run_command
from recap_tf.serving_model import export_model
from recap_tf.training import build_model


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.export",
        description="Exports a checkpoint of a ranker as a SavedModel.",
    )
    config.add_arguments(parser)
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a checkpoint's folder, or a save_dir: its best checkpoint if the run "
        "chose one, else its newest",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="versions appear below this folder"
    )
    parser.add_argument(
        "--version", type=int, metavar="N", help="the version; else the next free one"
    )
    arguments = parser.parse_args(argv)
    config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    path = checkpoints.choose_checkpoint(arguments.checkpoint)
    model = build_model(ranker)
    checkpoints.restore_model(path, model)
    step = checkpoints.step_of(path)
    version = export_model(
        model, ranker.train_data, arguments.out, step, arguments.version
    )
    print(f"Exported step {step} to {version}")
    print("Calibration ratio r that is baked in, p * r / (1 - p + r * p):")
    for task, ratio in model.calibration_ratios.items():
        print(f"  {task}: {ratio:g}")


if __name__ == "__main__":
    sys.exit(run_command(main))
