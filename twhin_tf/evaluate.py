"""Link prediction with a checkpoint of graph embeddings, on held-out edges.

python -m twhin_tf.evaluate --config configs/twhin_tiny.gin --checkpoint runs/twhin
"""

import argparse
import json
import posixpath
import sys
from collections.abc import Sequence

from recap_tf.core.arguments import add_checkpoint, add_config, check_config
from recap_tf.core.command import run_command


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    check_config(arguments.config)

    from recap_tf.core import files
    from recap_tf.core.training import checkpoints
    from twhin_tf.evaluation.edge_scorers import ModelScorer
    from twhin_tf.evaluation.evaluation_report import format_report
    from twhin_tf.evaluation.evaluator import LinkPredictionSettings, evaluate
    from twhin_tf.training import trained

    if arguments.json:
        files.check_writable("--json", posixpath.dirname(arguments.json) or ".")
    _, graph, model, path = trained.load_trained(arguments)
    settings = LinkPredictionSettings()
    report = evaluate(ModelScorer(model), graph, settings, progress=True)
    step = checkpoints.step_of(path)
    print(f"Step {step}, {path}, {report['split']}, filtered\n{format_report(report)}")
    if arguments.json:
        text = json.dumps({"step": step, **report}, indent=1)
        files.write_text(arguments.json, text + "\n")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.evaluate",
        description="Ranks the true nodes of held-out edges among all of their type.",
    )
    add_config(parser)
    add_checkpoint(parser, best=False)
    parser.add_argument("--json", metavar="FILE", help="also write the metrics here")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
