"""Skew check: replays requests against two models and says how their scores differ.

    python -m serving.compare --requests "logs/*.tfrecord" \\
        --left grpc://localhost:8500/mine --right models/mine/7 --tolerance 1e-5

Requests are PredictionLog records, as TF Serving's request logger, `serving.score
--record` and warm-up files have them, or tf.Examples. Exit code 1: more than tolerated.
"""

import argparse
import math
import sys
from collections.abc import Sequence

from serving import connection
from serving.command import UserError, run_command
from serving.tools.answerer_names import FORMS, parse_answerer


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    for name in ("batch", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1. Received: {value}")
    tolerances = _tolerances(arguments.tolerance)
    sides = parse_answerer(arguments.left), parse_answerer(arguments.right)
    # The address is the side's own; of this one only TLS counts.
    tls = connection.from_arguments(arguments, "localhost:0")
    # TensorFlow takes seconds to import: --help and wrong flags do not wait for it.
    from serving.tools.skew_check import check_skew

    beyond = check_skew(sides, tls, tolerances, arguments)
    return 1 if beyond else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.compare",
        description="Replays requests against two models and compares the scores.",
    )
    parser.add_argument("--left", required=True, metavar="MODEL", help=FORMS)
    parser.add_argument("--right", required=True, metavar="MODEL", help="the same")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument("--requests", metavar="GLOB", help="files of PredictionLog")
    given.add_argument("--examples", metavar="GLOB", help="files of tf.Examples")
    parser.add_argument(
        "--signature", default="serve_examples", metavar="KEY", help="for --examples"
    )
    parser.add_argument(
        "--input", default="examples", metavar="ALIAS", help="for --examples"
    )
    parser.add_argument("--batch", type=int, default=256, help="for --examples")
    parser.add_argument("--limit", type=int, metavar="N", help="requests at most")
    parser.add_argument(
        "--tolerance",
        action="append",
        default=[],
        metavar="[OUTPUT=]X",
        help="largest absolute difference of a value, of all outputs (default: 1e-5) "
        "or of one; can be repeated",
    )
    parser.add_argument(
        "--rank-tolerance",
        type=float,
        metavar="SHARE",
        help="of rows that may have another rank within their request; default: any",
    )
    parser.add_argument("--timeout-seconds", type=float, default=60.0, metavar="S")
    parser.add_argument("--json", metavar="FILE")
    connection.add_arguments(parser)
    return parser


def _tolerances(given: Sequence[str]) -> dict[str, float]:
    """Output -> its tolerance; that of "" is for all others."""
    tolerances = {"": 1e-5}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            tolerances[name] = float(value)
        except ValueError:
            tolerances[name] = math.nan
        if not tolerances[name] >= 0:
            raise UserError(
                "--tolerance must be a number that is not negative, or OUTPUT=NUMBER. "
                f"Received: {text!r}"
            )
    return tolerances


if __name__ == "__main__":
    sys.exit(run_command(main))
