"""Trains a ranker, evaluates it and exports it.

python -m recap_tf.train --config configs/recap.gin
"""

import argparse
import json
import posixpath
import sys
from collections.abc import Sequence

from recap_tf import record_probe, settings
from recap_tf.core import checkpoints, config, files
from recap_tf.core.command import run_command
from recap_tf.core.stopping import catch_signals
from recap_tf.evaluation_report import as_json, format_table
from recap_tf.read_errors import explained
from recap_tf.serving_model import export_model
from recap_tf.synthetic_sets import make_synthetic_data, reached_lines
from recap_tf.training import Trainer
from recap_tf.validation_sets import EvaluateSettings


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.train",
        description="Trains a ranker, evaluates it and exports it.",
    )
    config.add_arguments(parser)
    parser.add_argument(
        "--debug",
        action="store_true",
        help="run one plain eager step at a time, to step through with a debugger",
    )
    arguments = parser.parse_args(argv)
    config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    train, evaluate = settings.TrainSettings(), EvaluateSettings()
    export = settings.ExportSettings()
    in_force = config.operative()
    manifest = None
    if ranker.synthetic_data is not None:
        _say(f"Data: made up, in {ranker.synthetic_data.folder}.")
        manifest = make_synthetic_data(ranker, ranker.synthetic_data, _say)
    data = [ranker.train_data, *(named.records for named in ranker.validation_sets)]
    with explained(data, ranker.tasks):
        for warning in record_probe.probe(ranker.train_data, ranker.tasks):
            _say(f"warning: {warning}")
        trainer = Trainer(ranker, train, evaluate, in_force, eager=arguments.debug)
        _say(f"{trainer.model.count_params():,} weights, {len(ranker.tasks)} tasks.")
        with catch_signals(_say) as stop:
            outcome = trainer.run(stop)
    if outcome.interrupted:
        _say(
            f"Stopped after step {outcome.step} of {train.steps}; saved in "
            f"{outcome.checkpoint}. The same command goes on from there."
        )
        return
    if outcome.report is None:
        _say(
            f"{train.save_dir} is finished at step {outcome.step}; nothing to do. To "
            "train on, raise recap.train.steps; to start anew, change its save_dir."
        )
        return
    step = checkpoints.step_of(outcome.checkpoint)
    path = posixpath.join(train.save_dir, "evaluation.json")
    files.write_text(path, json.dumps(as_json(step, outcome.report), indent=1) + "\n")
    print(f"Step {step}, {outcome.checkpoint}\n{format_table(outcome.report)}")
    if manifest is not None:
        print(*reached_lines(manifest, outcome.report), sep="\n")
    if export.folder is not None:
        version = export_model(
            trainer.model, ranker.train_data, export.folder, step, None
        )
        print(f"Exported to {version}")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(run_command(main))
