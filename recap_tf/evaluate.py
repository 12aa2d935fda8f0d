"""Evaluates checkpoints of a ranker on its validation sets.

    python -m recap_tf.evaluate --config configs/recap.gin --checkpoint runs/recap

With --follow, every checkpoint of a training that goes on meanwhile, as it appears;
without post-hoc calibrators, which training fits to its last checkpoint alone.
"""

import argparse
import dataclasses
import json
import posixpath
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recap_tf.core.arguments import add_checkpoint, add_config, check_config
from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError, run_command, say

if TYPE_CHECKING:
    from recap_tf.evaluation.evaluation_report import Report


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    if arguments.follow:
        if arguments.report:
            raise UserError("--report is of one checkpoint, --follow of all.")
        if arguments.without_calibrators:
            raise UserError(
                "--follow evaluates without post-hoc calibrators as it is; leave out "
                "--without-calibrators."
            )
        if arguments.best is not None:
            raise UserError("--follow evaluates every checkpoint; leave out --best.")
        if arguments.timeout is not None:
            check_range("--timeout", arguments.timeout, above=0, error=UserError)
    elif arguments.timeout is not None:
        raise UserError("--timeout is for --follow alone.")
    check_config(arguments.config)

    from recap_tf.core import files

    if arguments.json:
        files.check_writable("--json", posixpath.dirname(arguments.json) or ".")
    if arguments.follow:
        _follow(arguments)
    else:
        _evaluate(arguments)


def _evaluate(arguments: argparse.Namespace) -> None:
    from recap_tf.core.training import checkpoints
    from recap_tf.data.explained_errors import explained
    from recap_tf.evaluation.evaluation_report import format_table
    from recap_tf.evaluation.evaluator import Evaluator
    from recap_tf.evaluation.report_settings import ReportSettings
    from recap_tf.evaluation.validation_sets import EvaluateSettings
    from recap_tf.report.report_writer import ReportWriter
    from recap_tf.training import trained

    ranker, model, path = trained.load_trained(
        arguments, calibrated=not arguments.without_calibrators
    )
    evaluator = Evaluator(model, ranker.validation_sets, EvaluateSettings())
    data = [named.records for named in ranker.validation_sets]
    writer = None
    if arguments.report:
        writer = ReportWriter(arguments.report, ranker, model, path, ReportSettings())
    with explained(data, ranker.tasks):
        report = evaluator.evaluate(writer and writer.observe)
    step = checkpoints.step_of(path)
    print(f"Step {step}, {path}\n{format_table(report)}")
    print(f"Post-hoc calibrators: {model.calibrators or 'none'}.")
    _write_json(arguments.json, step, report)
    if writer is not None:
        with explained(data, ranker.tasks):
            print(f"Report: {writer.write(report)}")


def _follow(arguments: argparse.Namespace) -> None:
    from recap_tf.core.training import checkpoints
    from recap_tf.data.explained_errors import explained
    from recap_tf.evaluation.evaluation_report import format_table
    from recap_tf.evaluation.evaluator import Evaluator
    from recap_tf.evaluation.following_evaluator import FollowingEvaluator
    from recap_tf.evaluation.validation_sets import EvaluateSettings
    from recap_tf.training import trained

    save_dir = trained.save_dir_of(arguments.checkpoint, "--follow")
    ranker, model = trained.load_untrained(arguments)
    settings = EvaluateSettings()
    if arguments.timeout is not None:
        settings = dataclasses.replace(settings, timeout_seconds=arguments.timeout)
    if not ranker.validation_sets:
        raise UserError("--follow: recap.ranker.validation_sets is empty.")

    def show(step: int, report: "Report") -> None:
        print(f"Step {step}\n{format_table(report)}", flush=True)
        _write_json(arguments.json, step, report)

    follower = FollowingEvaluator(
        save_dir,
        lambda path: checkpoints.restore_model(path, model),
        Evaluator(model, ranker.validation_sets, settings),
        ranker.validation_sets,
        settings.timeout_seconds,
        say,
        show,
    )
    data = [named.records for named in ranker.validation_sets]
    with explained(data, ranker.tasks):
        try:
            follower.run()
        except KeyboardInterrupt:
            say("\nThe same command goes on with the sets that are not yet done.")
            raise
    say(f"The training below {save_dir} is finished; all of it is evaluated.")


def _write_json(path: str | None, step: int, report: "Report") -> None:
    from recap_tf.core import files
    from recap_tf.evaluation.evaluation_report import as_json

    if path:
        files.write_text(path, json.dumps(as_json(step, report), indent=1) + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.evaluate",
        description="Evaluates checkpoints of a ranker on its validation sets.",
    )
    add_config(parser)
    add_checkpoint(parser, best=True)
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")
    parser.add_argument(
        "--report",
        metavar="DIR",
        help="also write a page to look at, DIR/index.html: curves, importance of "
        "features, training, data",
    )
    parser.add_argument(
        "--follow",
        action="store_true",
        help="evaluate every checkpoint below the save_dir as it appears, until the "
        "last one of the training; what is evaluated is marked and not done again",
    )
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help="with --follow, in place of recap.evaluate.timeout_seconds: how long to "
        "wait for the next checkpoint",
    )
    parser.add_argument(
        "--without-calibrators",
        action="store_true",
        help="leave out the post-hoc calibrators that the checkpoint has",
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
