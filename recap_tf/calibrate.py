"""Fits the post-hoc calibrators of a ranker's checkpoint, and stores them with it.

python -m recap_tf.calibrate --config configs/recap.gin --checkpoint runs/recap
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core.arguments import add_checkpoint, add_config, check_config
from recap_tf.core.command import run_command, say


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    check_config(arguments.config)

    from recap_tf.data.explained_errors import explained
    from recap_tf.evaluation.calibration_report import format_comparisons
    from recap_tf.evaluation.calibrator_fitting import (
        CalibrateSettings,
        fit_calibrators,
        write_calibrators,
    )
    from recap_tf.evaluation.validation_sets import EvaluateSettings
    from recap_tf.training import trained

    ranker, model, path = trained.load_trained(arguments, calibrated=False)
    data = [named.records for named in ranker.validation_sets]
    with explained(data, ranker.tasks):
        calibrators, comparisons = fit_calibrators(
            model,
            ranker.validation_sets,
            CalibrateSettings(),
            EvaluateSettings().batch_size,
            say,
        )
    write_calibrators(path, calibrators, comparisons)
    print(f"Calibrators of {path}, before -> after:\n{format_comparisons(comparisons)}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.calibrate",
        description="Fits post-hoc calibrators, one per task, on a validation set "
        "(recap.calibrate.validation_set), and stores them with the checkpoint.",
    )
    add_config(parser)
    add_checkpoint(parser, best=True)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
