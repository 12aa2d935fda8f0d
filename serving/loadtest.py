"""Puts load on a server and says how it does: latency, throughput, errors, memory.

    python -m serving.loadtest --server localhost:8500 --model mine --rate 50 \\
        --sizes 200:3,1500:1 --examples "data/mine/test/*.tfrecord.gz" \\
        --json load.json --plot load.png

`--find-capacity` looks for the highest rate first, `--callers` is a closed loop. Works
against TF Serving's own server as well.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence

from serving import connection
from serving.client import Client
from serving.command import UserError, run_command
from serving.files import write_text
from serving.tools import load_report, request_pool, rows
from serving.tools.capacity import LoadLimits, find_capacity
from serving.tools.load import OfferedLoad, run_load
from serving.tools.load_worker import RequestPool
from serving.tools.memory_log import MemoryLog

_DEFAULT_CAPACITY_P99_MS = 250.0


def main(argv: Sequence[str] | None = None) -> int:
    """Exit code 1: a limit was not kept."""
    arguments = _parser().parse_args(argv)
    load = OfferedLoad(
        **{
            field.name: getattr(arguments, field.name)
            for field in dataclasses.fields(OfferedLoad)
        }
    )
    _check(arguments, load)
    server = connection.from_arguments(arguments, arguments.server)
    with Client(server, timeout_seconds=arguments.timeout_seconds) as client:
        pool = _pool(client, arguments)
        request_pool.try_out(client, pool)
    report = {"bytes_per_request": _bytes_by_rows(pool)}
    if arguments.find_capacity:
        report["capacity"] = _find_capacity(server, pool, load, arguments)
        rate = report["capacity"]["requests_per_second"] * arguments.of_capacity
        print(f"Capacity: {report['capacity']['requests_per_second']:.1f} requests/s")
        load = dataclasses.replace(load, rate=rate)
    memory = arguments.server_pid and MemoryLog(arguments.server_pid)
    with memory or contextlib.nullcontext():
        outcome = run_load(server, pool, load)
    report |= load_report.as_json(outcome, memory or None)
    limits = LoadLimits(p99_ms=arguments.p99_ms, error_share=arguments.error_share)
    missed = limits.missed(outcome)
    if arguments.growth_mb is not None and memory.growth() > arguments.growth_mb:
        missed.append(
            f"memory grew by {memory.growth():.1f} MB, more than "
            f"{arguments.growth_mb:g} MB"
        )
    report["limits_missed"] = missed
    print(load_report.as_text(report))
    for line in missed:
        print(f"MISSED        {line}")
    if arguments.json:
        write_text(arguments.json, json.dumps(report, indent=1) + "\n")
    if arguments.plot:
        load_report.write_chart(arguments.plot, outcome, memory or None)
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


def _pool(client: Client, arguments) -> RequestPool:
    if arguments.requests is not None:
        paths = rows.match_files(arguments.requests)
        return request_pool.recorded_pool(paths, arguments.model)
    key = "serving_default" if arguments.examples is None else "serve_examples"
    return request_pool.sized_pool(
        client,
        arguments.model,
        arguments.signature or key,
        request_pool.parse_sizes(arguments.sizes),
        examples=arguments.examples,
        parquet=arguments.parquet,
        outputs=arguments.outputs.split(",") if arguments.outputs else (),
        seed=arguments.seed,
    )


def _find_capacity(server, pool: RequestPool, load: OfferedLoad, arguments) -> dict:
    limits = LoadLimits(
        p99_ms=arguments.p99_ms or _DEFAULT_CAPACITY_P99_MS,
        error_share=arguments.error_share,
    )
    steps = []

    def stands(rate: float) -> bool:
        step = dataclasses.replace(
            load,
            rate=rate,
            seconds=arguments.step_seconds,
            warmup_seconds=min(load.warmup_seconds, arguments.step_seconds / 2),
        )
        outcome = run_load(server, pool, step)
        good = limits.are_kept(outcome)
        steps.append(
            {
                "rate": rate,
                "stands": good,
                "requests_per_second": outcome.throughput()[0],
                "latency_ms": outcome.percentiles(),
                "errors": outcome.errors(),
                "client_was_the_bottleneck": outcome.client_was_the_bottleneck(),
            }
        )
        p99 = outcome.percentiles().get("p99", float("nan"))
        late = ", the client was late" if steps[-1]["client_was_the_bottleneck"] else ""
        print(
            f"{rate:9.1f} requests/s: {'stands' if good else 'too much'}, p99 "
            f"{p99:.1f} ms, {outcome.throughput()[0]:.1f}/s answered{late}",
            flush=True,
        )
        return good

    capacity = find_capacity(stands, load.rate, precision=arguments.precision)
    return {
        "requests_per_second": capacity,
        "limits": dataclasses.asdict(limits),
        "steps": steps,
    }


def _bytes_by_rows(pool: RequestPool) -> dict[str, float]:
    """Mean size of a request, by the examples in it."""
    sizes = [len(message) for message in pool.messages]
    return {
        str(count): sum(s for s, r in zip(sizes, pool.rows, strict=True) if r == count)
        / int((pool.rows == count).sum())
        for count in sorted(set(pool.rows.tolist()))
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
