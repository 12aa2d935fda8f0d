"""Puts load on a server and says how it does: latency, throughput, errors, memory.

    python -m serving.loadtest --server localhost:8500 --model mine --rate 50 \\
        --sizes 200:3,1500:1 --examples "data/mine/test/*.tfrecord.gz" \\
        --json load.json --plot load.png

`--find-capacity` looks for the highest rate first, `--callers` is a closed loop. Works
against TF Serving's own server as well.
"""

import argparse
import dataclasses
import sys
from collections.abc import Sequence

from serving import connection
from serving.command import UserError, run_command
from serving.tools.offered_load import OfferedLoad, parse_sizes

_DEFAULT_CAPACITY_P99_MS = 250.0


def main(argv: Sequence[str] | None = None) -> int:
    """Tests a server; exit code 1: a limit was not kept."""
    arguments = _parser().parse_args(argv)
    load = OfferedLoad(
        **{
            field.name: getattr(arguments, field.name)
            for field in dataclasses.fields(OfferedLoad)
        }
    )
    _check(arguments, load)
    sizes = parse_sizes(arguments.sizes) if arguments.requests is None else None
    server = connection.from_arguments(arguments, arguments.server)
    # TensorFlow takes seconds to import: --help and wrong flags do not wait for it.
    from serving.tools.load_test import run_test

    missed = run_test(
        server,
        load,
        sizes,
        arguments,
        capacity_p99_ms=arguments.p99_ms or _DEFAULT_CAPACITY_P99_MS,
    )
    return 1 if missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m serving.loadtest",
        description="Puts load on a server. Latency counts from the time at which a "
        "request was to be sent.",
    )
    parser.add_argument("--server", default="localhost:8500", metavar="HOST:PORT")
    parser.add_argument("--model", required=True, metavar="NAME")
    parser.add_argument(
        "--signature",
        metavar="KEY",
        help="default: serve_examples for --examples, else serving_default",
    )
    parser.add_argument("--outputs", metavar="A,B", help="asked for; default: all")
    parser.add_argument(
        "--sizes",
        default="1",
        metavar="ROWS[:WEIGHT],...",
        help="examples in a request, and how often (default: 1)",
    )
    given = parser.add_mutually_exclusive_group()
    given.add_argument("--examples", metavar="GLOB", help="tf.Examples to draw from")
    given.add_argument("--parquet", metavar="GLOB", help="columns to draw from")
    given.add_argument(
        "--requests",
        metavar="GLOB",
        help="PredictionLog files to send from, e.g. of serving.score --record",
    )
    how = parser.add_argument_group("load")
    how.add_argument(
        "--rate",
        type=float,
        metavar="PER_SECOND",
        help="of Poisson arrivals; with --find-capacity the first tried",
    )
    how.add_argument(
        "--callers",
        type=int,
        default=0,
        metavar="N",
        help="a closed loop instead: each sends when it has its answer",
    )
    how.add_argument("--seconds", type=float, default=30.0)
    how.add_argument("--warmup-seconds", type=float, default=5.0)
    how.add_argument(
        "--timeout-seconds",
        type=float,
        default=10.0,
        help="deadline of a request, from its intended time",
    )
    how.add_argument("--processes", type=int, default=2, help="that send")
    how.add_argument("--channels", type=int, default=1, help="of each process")
    how.add_argument("--seed", type=int, default=0)
    search = parser.add_argument_group("capacity")
    search.add_argument(
        "--find-capacity",
        action="store_true",
        help="first look for the highest rate that keeps the limits",
    )
    search.add_argument(
        "--of-capacity",
        type=float,
        default=1.0,
        metavar="SHARE",
        help="the rate of the test that follows (default: 1)",
    )
    search.add_argument("--step-seconds", type=float, default=8.0)
    search.add_argument(
        "--precision",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="of the rate that is too much (default: 0.05)",
    )
    limits = parser.add_argument_group("limits", "exit code 1 if one is not kept")
    limits.add_argument(
        "--p99-ms",
        type=float,
        metavar="MS",
        help=f"capacity: {_DEFAULT_CAPACITY_P99_MS:g} if not given",
    )
    limits.add_argument("--error-share", type=float, default=0.0, metavar="SHARE")
    limits.add_argument(
        "--growth-mb",
        type=float,
        metavar="MB",
        help="of --server-pid's memory, second to last quarter",
    )
    out = parser.add_argument_group("output")
    out.add_argument(
        "--server-pid",
        type=int,
        metavar="PID",
        help="note this process's resident memory every second",
    )
    out.add_argument("--json", metavar="FILE")
    out.add_argument("--plot", metavar="FILE", help="PNG")
    connection.add_arguments(parser)
    return parser


def _check(arguments, load: OfferedLoad) -> None:
    if arguments.find_capacity and load.rate is None:
        raise UserError("--find-capacity needs --rate, the first one to try.")
    if arguments.growth_mb is not None and not arguments.server_pid:
        raise UserError("--growth-mb needs --server-pid.")
    for name in ("step_seconds", "of_capacity", "precision"):
        if not getattr(arguments, name) > 0:
            flag = name.replace("_", "-")
            raise UserError(
                f"--{flag} must be positive. Received: {getattr(arguments, name)}"
            )
    if not 0 <= arguments.error_share <= 1:
        raise UserError(
            f"--error-share must be in [0, 1]. Received: {arguments.error_share}"
        )


if __name__ == "__main__":
    sys.exit(run_command(main))
