"""Evaluates a checkpoint of a ranker on its validation sets.

python -m recap_tf.evaluate --config configs/recap.gin --checkpoint runs/recap
"""

import argparse
import json
import sys
from collections.abc import Sequence

from recap_tf import trained
from recap_tf.core import checkpoints, files
from recap_tf.core.command import run_command
from recap_tf.evaluation import Evaluator, as_json, format_table
from recap_tf.read_errors import explained
from recap_tf.validation_sets import EvaluateSettings


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.evaluate",
        description="Evaluates a checkpoint of a ranker on its validation sets.",
    )
    trained.add_arguments(parser)
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")
    parser.add_argument(
        "--without-calibrators",
        action="store_true",
        help="leave out the post-hoc calibrators that the checkpoint has",
    )
    arguments = parser.parse_args(argv)
    ranker, model, path = trained.load_trained(
        arguments, calibrated=not arguments.without_calibrators
    )
    evaluator = Evaluator(model, ranker.validation_sets, EvaluateSettings())
    data = [named.records for named in ranker.validation_sets]
    with explained(data, ranker.tasks):
        report = evaluator.evaluate()
    step = checkpoints.step_of(path)
    print(f"Step {step}, {path}\n{format_table(report)}")
    print(f"Post-hoc calibrators: {model.calibrators or 'none'}.")
    if arguments.json:
        text = json.dumps(as_json(step, report), indent=1) + "\n"
        files.write_text(arguments.json, text)


if __name__ == "__main__":
    sys.exit(run_command(main))
