"""Evaluates a checkpoint of a ranker on its validation sets.

python -m recap_tf.evaluate --config configs/recap.gin --checkpoint runs/recap
"""

import argparse
import json
import sys
from collections.abc import Sequence

from recap_tf import settings
from recap_tf.core import checkpoints, config, files
from recap_tf.core.command import run_command
from recap_tf.evaluation import Evaluator, as_json, format_table
from recap_tf.read_errors import explained
from recap_tf.training import build_model
from recap_tf.validation_sets import EvaluateSettings


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.evaluate",
        description="Evaluates a checkpoint of a ranker on its validation sets.",
    )
    config.add_arguments(parser)
    parser.add_argument(
        "--checkpoint",
        required=True,
        metavar="DIR",
        help="a checkpoint's folder, or a save_dir: its best checkpoint if the run "
        "chose one, else its newest",
    )
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")
    arguments = parser.parse_args(argv)
    config.load(arguments.config, arguments.overrides, roots=settings.ROOTS)
    ranker = settings.Ranker()
    path = checkpoints.choose_checkpoint(arguments.checkpoint)
    model = build_model(ranker)
    checkpoints.restore_model(path, model)
    evaluator = Evaluator(model, ranker.validation_sets, EvaluateSettings())
    data = [named.records for named in ranker.validation_sets]
    with explained(data, ranker.tasks):
        report = evaluator.evaluate()
    step = checkpoints.step_of(path)
    print(f"Step {step}, {path}\n{format_table(report)}")
    if arguments.json:
        text = json.dumps(as_json(step, report), indent=1) + "\n"
        files.write_text(arguments.json, text)


if __name__ == "__main__":
    sys.exit(run_command(main))
