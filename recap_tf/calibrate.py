"""Fits the post-hoc calibrators of a ranker's checkpoint, and stores them with it.

python -m recap_tf.calibrate --config configs/recap.gin --checkpoint runs/recap
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core.command import run_command, say
from recap_tf.data.explained_errors import explained
from recap_tf.evaluation.calibration_report import format_comparisons
from recap_tf.evaluation.calibrator_fitting import (
    CalibrateSettings,
    fit_calibrators,
    write_calibrators,
)
from recap_tf.evaluation.validation_sets import EvaluateSettings
from recap_tf.training import trained


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.calibrate",
        description="Fits post-hoc calibrators, one per task, on a validation set "
        "(recap.calibrate.validation_set), and stores them with the checkpoint.",
    )
    trained.add_arguments(parser)
    arguments = parser.parse_args(argv)
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


if __name__ == "__main__":
    sys.exit(run_command(main))
