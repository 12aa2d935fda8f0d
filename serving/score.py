"""Scores a TFRecord or parquet file against a server, into a parquet file.

    python -m serving.score --server localhost:8500 --model mine \\
        --examples "data/mine/test/*.tfrecord.gz" --out scores.parquet
"""

import argparse
import sys
from collections.abc import Sequence

from serving import connection
from serving.command import UserError, run_command

_EXAMPLES, _PARQUET = "serve_examples", "serving_default"


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    for name in ("batch", "in_flight", "timeout_seconds"):
        if not getattr(arguments, name) > 0:
            flag = name.replace("_", "-")
            raise UserError(
                f"--{flag} must be positive. Received: {getattr(arguments, name)}"
            )
    is_parquet = arguments.parquet is not None
    if arguments.keep and not is_parquet:
        raise UserError("--keep names columns of --parquet, which is not given.")
    arguments.signature = arguments.signature or (_PARQUET if is_parquet else _EXAMPLES)
    server = connection.from_arguments(arguments, arguments.server)
    # TensorFlow takes seconds to import: --help and wrong flags do not wait for it.
    from serving.tools.scoring import score_files

    count, version = score_files(server, arguments)
    print(
        f"Scored {count} rows with version {version} of {arguments.model!r} into "
        f"{arguments.out}"
    )
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.score",
        description="Scores a TFRecord or parquet file against a server. Rows keep "
        "their order; outputs become columns.",
    )
    parser.add_argument("--server", default="localhost:8500", metavar="HOST:PORT")
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument("--version", type=int, metavar="N", help="else the newest")
    given = parser.add_mutually_exclusive_group(required=True)
    given.add_argument(
        "--examples", metavar="GLOB", help="TFRecord files of tf.Examples, gzip or not"
    )
    given.add_argument(
        "--parquet", metavar="GLOB", help="columns named as the signature's inputs"
    )
    parser.add_argument(
        "--signature",
        metavar="KEY",
        help=f"default: {_EXAMPLES} for --examples, {_PARQUET} for --parquet",
    )
    parser.add_argument(
        "--outputs", metavar="A,B", help="those wanted; default: all of the signature"
    )
    parser.add_argument(
        "--keep", metavar="A,B", help="columns of --parquet to copy beside the scores"
    )
    parser.add_argument("--out", required=True, metavar="FILE", help="parquet, written")
    parser.add_argument("--record", metavar="FILE", help="also write a PredictionLog")
    parser.add_argument("--batch", type=int, default=256, metavar="ROWS")
    parser.add_argument(
        "--in-flight", type=int, default=2, metavar="N", help="requests at once"
    )
    parser.add_argument("--timeout-seconds", type=float, default=60.0, metavar="S")
    connection.add_arguments(parser)
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
