"""Trains a ranker, evaluates it and exports it.

python -m recap_tf.train --config configs/recap.gin
"""

import argparse
import dataclasses
import json
import posixpath
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recap_tf.core.arguments import add_config, check_config
from recap_tf.core.command import UserError, run_command, say

if TYPE_CHECKING:
    from recap_tf.core.training.run import RunOutcome
    from recap_tf.evaluation.calibrator_fitting import CalibrateSettings
    from recap_tf.evaluation.validation_sets import EvaluateSettings
    from recap_tf.model.ranking_model import RankingModel
    from recap_tf.model.scorer import Scorer
    from recap_tf.settings import Ranker


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    check_config(arguments.config)

    from recap_tf import settings
    from recap_tf.core import files
    from recap_tf.core.config import gin_config
    from recap_tf.core.training import checkpoints
    from recap_tf.core.training.stopping import catch_signals
    from recap_tf.data import record_probe
    from recap_tf.data.explained_errors import explained
    from recap_tf.evaluation.calibrator_fitting import (
        CalibrateSettings,
        has_calibrators,
    )
    from recap_tf.evaluation.evaluation_report import as_json, format_table
    from recap_tf.evaluation.validation_sets import EvaluateSettings
    from recap_tf.exporting.saved_model import check_settings, export_model
    from recap_tf.training.made_sets import make_synthetic_data, reached_lines
    from recap_tf.training.trainer import RankerTrainer

    gin_config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    train, evaluate = settings.TrainSettings(), EvaluateSettings()
    export = settings.ExportSettings()
    if export.folder is not None:
        check_settings(export, ranker)
    calibrate = CalibrateSettings() if train.calibrate else None
    if calibrate is not None:
        calibrate.chosen_sets(ranker.tasks, ranker.validation_sets)
    in_force = gin_config.operative()
    manifest = None
    if ranker.synthetic_data is not None:
        say(f"Data: made up, in {ranker.synthetic_data.folder}.")
        manifest = make_synthetic_data(ranker, ranker.synthetic_data, say)
    data = [ranker.train_data, *(named.records for named in ranker.validation_sets)]
    with explained(data, ranker.tasks):
        for warning in record_probe.probe(ranker.train_data, ranker.tasks):
            say(f"warning: {warning}")
        trainer = RankerTrainer(
            ranker, train, evaluate, in_force, eager=arguments.debug
        )
        say(f"{trainer.model.count_params():,} weights, {len(ranker.tasks)} tasks.")
        with catch_signals(say) as stop:
            outcome = trainer.run(stop)
    if outcome.interrupted:
        say(
            f"Stopped after step {outcome.step} of {train.steps}; saved in "
            f"{outcome.checkpoint}. The same command goes on from there."
        )
        return
    if outcome.report is None:
        say(
            f"{train.save_dir} is finished at step {outcome.step}; nothing to do. To "
            "train on, raise recap.train.steps; to start anew, change its save_dir."
        )
        if train.calibrate and not has_calibrators(outcome.checkpoint):
            say(f"{outcome.checkpoint} has no calibrators: use recap_tf.calibrate.")
        return
    scorer = trainer.model
    if calibrate is not None:
        with explained(data, ranker.tasks):
            outcome, scorer = _calibrated(
                outcome, trainer.model, ranker, calibrate, evaluate
            )
    step = checkpoints.step_of(outcome.checkpoint)
    path = posixpath.join(train.save_dir, "evaluation.json")
    files.write_text(path, json.dumps(as_json(step, outcome.report), indent=1) + "\n")
    print(f"Step {step}, {outcome.checkpoint}\n{format_table(outcome.report)}")
    if manifest is not None:
        print(*reached_lines(manifest, outcome.report), sep="\n")
    if export.folder is not None:
        version = export_model(
            scorer, ranker.train_data, export.folder, step, None, export
        )
        print(f"Exported to {version}")


def _calibrated(
    outcome: "RunOutcome",
    model: "RankingModel",
    ranker: "Ranker",
    calibrate: "CalibrateSettings",
    evaluate: "EvaluateSettings",
) -> tuple["RunOutcome", "Scorer"]:
    """Gives the checkpoint post-hoc calibrators; outcome and model with them."""
    from recap_tf.evaluation.calibration_report import format_comparisons
    from recap_tf.evaluation.calibrator_fitting import (
        fit_calibrators,
        write_calibrators,
    )
    from recap_tf.evaluation.evaluator import Evaluator
    from recap_tf.model.scorer import with_calibrators

    sets = ranker.validation_sets
    try:
        calibrators, comparisons = fit_calibrators(
            model, sets, calibrate, evaluate.batch_size, say
        )
    except UserError as error:
        raise UserError(
            f"{error} Training is complete; recap_tf.calibrate, evaluate and export "
            f"take {outcome.checkpoint}."
        ) from error
    write_calibrators(outcome.checkpoint, calibrators, comparisons)
    print(f"Calibrators, before -> after:\n{format_comparisons(comparisons)}")
    scorer = with_calibrators(model, calibrators)
    # Anew: the trainer's evaluator has the model without them in its graph.
    report = Evaluator(scorer, sets, evaluate).evaluate()
    return dataclasses.replace(outcome, report=report), scorer


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.train",
        description="Trains a ranker, evaluates it and exports it.",
    )
    add_config(parser)
    parser.add_argument(
        "--debug",
        action="store_true",
        help="run one plain eager step at a time, to step through with a debugger",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
