"""Exports a checkpoint of a ranker as the next version of a served model.

    python -m recap_tf.export --config configs/recap.gin --checkpoint runs/recap \\
        --out models/recap
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf import trained
from recap_tf.core import checkpoints
from recap_tf.core.command import run_command
from recap_tf.serving_model import export_model


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.export",
        description="Exports a checkpoint of a ranker as a SavedModel.",
    )
    trained.add_arguments(parser)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="versions appear below this folder"
    )
    parser.add_argument(
        "--version", type=int, metavar="N", help="the version; else the next free one"
    )
    arguments = parser.parse_args(argv)
    ranker, model, path = trained.load_trained(arguments)
    step = checkpoints.step_of(path)
    version = export_model(
        model, ranker.train_data, arguments.out, step, arguments.version
    )
    print(f"Exported step {step} to {version}")
    print("Calibration ratio r that is baked in, p * r / (1 - p + r * p):")
    for task, ratio in model.calibration_ratios.items():
        print(f"  {task}: {ratio:g}")
    if model.calibrators is None:
        print(
            "Post-hoc calibrators: none. python -m recap_tf.calibrate fits them to a "
            "checkpoint."
        )
    else:
        print("Post-hoc calibrators that are baked in after it:")
        for task, one in model.calibrators.maps.items():
            print(f"  {task}: {one}; fitted on {model.calibrators.fitted_on[task]}")
    if model.score_weights:
        print("Score weights, unless a request brings its own:")
        for task, weight in model.score_weights.items():
            print(f"  {task}: {weight:g}")


if __name__ == "__main__":
    sys.exit(run_command(main))
