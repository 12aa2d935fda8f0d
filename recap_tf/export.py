"""Exports a checkpoint of a ranker as the next version of a served model.

    python -m recap_tf.export --config configs/recap.gin --checkpoint runs/recap \\
        --out models/recap

--variant bfloat16 and --variant frozen export other forms of it, and say what that
changes on the validation sets.
"""

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recap_tf.core.arguments import add_checkpoint, add_config, check_config
from recap_tf.core.command import run_command

if TYPE_CHECKING:
    from recap_tf.model.scorer import Scorer
    from recap_tf.settings import Ranker


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    check_config(arguments.config)

    from recap_tf.core.training import checkpoints
    from recap_tf.exporting.saved_model import export_model
    from recap_tf.exporting.variants import make_variant
    from recap_tf.settings import ExportSettings
    from recap_tf.training import trained

    ranker, model, path = trained.load_trained(arguments)
    step = checkpoints.step_of(path)
    exported, described = model, None
    if arguments.variant is not None:
        exported = make_variant(arguments.variant, ranker, model)
        described = _compared(arguments.variant, ranker, model, exported)
    version = export_model(
        exported,
        ranker.train_data,
        arguments.out,
        step,
        arguments.version,
        ExportSettings(),
        described,
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
        for task, calibrator in model.calibrators.maps.items():
            print(
                f"  {task}: {calibrator}; fitted on {model.calibrators.fitted_on[task]}"
            )
    if model.score_weights:
        print("Score weights, unless a request brings its own:")
        for task, weight in model.score_weights.items():
            print(f"  {task}: {weight:g}")


def _compared(name: str, ranker: "Ranker", model: "Scorer", variant) -> dict:
    """Measures and prints what `variant` changes; returns what to store of it."""
    from recap_tf.data.explained_errors import explained
    from recap_tf.evaluation.validation_sets import EvaluateSettings
    from recap_tf.exporting.variant_comparison import (
        as_json,
        compare,
        format_comparison,
    )

    described = {"name": name, "trained_in": ranker.precision, "changes": None}
    if not ranker.validation_sets:
        print("What it changes: not measured, recap.ranker.validation_sets is empty.")
        return described
    data = [named.records for named in ranker.validation_sets]
    with explained(data, ranker.tasks):
        comparison = compare(model, variant, ranker.validation_sets, EvaluateSettings())
    print(
        f"{name} against the model as trained, in {ranker.precision}; changes of "
        "calibrated probabilities and of the score in their standard deviations:\n"
        + format_comparison(comparison)
    )
    return described | {"changes": as_json(comparison)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.export",
        description="Exports a checkpoint of a ranker as a SavedModel.",
    )
    add_config(parser)
    add_checkpoint(parser, best=True)
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="versions appear below this folder"
    )
    parser.add_argument(
        "--version", type=int, metavar="N", help="the version; else the next free one"
    )
    parser.add_argument(
        "--variant",
        choices=("bfloat16", "frozen"),
        help="bfloat16: weights and matrix products in it; frozen: weights as "
        "constants of the graph. What either changes on the validation sets is "
        "measured, printed and stored",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
