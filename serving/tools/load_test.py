"""A load test from its requests to its report: capacity, load, limits, files."""

import argparse
import contextlib
import dataclasses
import json
from collections.abc import Mapping
from typing import Any

from serving.client import Client
from serving.connection import Connection
from serving.files import write_text
from serving.tools import load_report, request_pool, rows
from serving.tools.capacity import LoadLimits, find_capacity
from serving.tools.load_processes import run_load
from serving.tools.load_worker import RequestPool
from serving.tools.memory_log import MemoryLog
from serving.tools.offered_load import OfferedLoad


def run_test(
    server: Connection,
    load: OfferedLoad,
    sizes: Mapping[int, float] | None,
    arguments: argparse.Namespace,
    *,
    capacity_p99_ms: float,
) -> list[str]:
    """Puts load on a server, and prints and writes what that showed.

    Args:
        load: what it is offered; with `arguments.find_capacity` at another rate.
        sizes: rows -> weight, of the requests; None for the recorded ones.
        arguments: of `serving.loadtest`.
        capacity_p99_ms: latency up to which a rate is not too much.

    Returns:
        a line for each limit that was not kept.

    Raises:
        UserError: the requests cannot be made, or the server cannot be reached.
        CallError: the server refuses the requests.
    """
    with Client(server, timeout_seconds=arguments.timeout_seconds) as client:
        pool = _pool(client, sizes, arguments)
        request_pool.try_out(client, pool)
    report: dict[str, Any] = {"bytes_per_request": _bytes_by_rows(pool)}
    limits = LoadLimits(p99_ms=arguments.p99_ms, error_share=arguments.error_share)
    if arguments.find_capacity:
        search_limits = dataclasses.replace(limits, p99_ms=capacity_p99_ms)
        capacity = _find_capacity(server, pool, load, search_limits, arguments)
        report["capacity"] = capacity
        rate = capacity["requests_per_second"] * arguments.of_capacity
        print(f"Capacity: {capacity['requests_per_second']:.1f} requests/s")
        load = dataclasses.replace(load, rate=rate)
    memory = arguments.server_pid and MemoryLog(arguments.server_pid)
    with memory or contextlib.nullcontext():
        outcome = run_load(server, pool, load)
    report |= load_report.as_json(outcome, memory or None)
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
    return missed


def _pool(
    client: Client, sizes: Mapping[int, float] | None, arguments: argparse.Namespace
) -> RequestPool:
    if sizes is None:
        paths = rows.match_files(arguments.requests)
        return request_pool.recorded_pool(paths, arguments.model)
    key = "serving_default" if arguments.examples is None else "serve_examples"
    return request_pool.sized_pool(
        client,
        arguments.model,
        arguments.signature or key,
        sizes,
        examples=arguments.examples,
        parquet=arguments.parquet,
        outputs=arguments.outputs.split(",") if arguments.outputs else (),
        seed=arguments.seed,
    )


def _find_capacity(
    server: Connection,
    pool: RequestPool,
    load: OfferedLoad,
    limits: LoadLimits,
    arguments: argparse.Namespace,
) -> dict[str, Any]:
    steps = []

    def is_within_limits(rate: float) -> bool:
        step = dataclasses.replace(
            load,
            rate=rate,
            seconds=arguments.step_seconds,
            warmup_seconds=min(load.warmup_seconds, arguments.step_seconds / 2),
        )
        outcome = run_load(server, pool, step)
        is_within = limits.are_kept(outcome)
        steps.append(
            {
                "rate": rate,
                "within_limits": is_within,
                "requests_per_second": outcome.throughput()[0],
                "latency_ms": outcome.percentiles(),
                "errors": outcome.errors(),
                "client_was_the_bottleneck": outcome.client_was_the_bottleneck(),
            }
        )
        p99 = outcome.percentiles().get("p99", float("nan"))
        late = ", the client was late" if steps[-1]["client_was_the_bottleneck"] else ""
        print(
            f"{rate:9.1f} requests/s: {'within limits' if is_within else 'too much'}, "
            f"p99 {p99:.1f} ms, {outcome.throughput()[0]:.1f}/s answered{late}",
            flush=True,
        )
        return is_within

    capacity = find_capacity(is_within_limits, load.rate, precision=arguments.precision)
    return {
        "requests_per_second": capacity,
        "limits": dataclasses.asdict(limits),
        "steps": steps,
    }


def _bytes_by_rows(pool: RequestPool) -> dict[str, float]:
    """The mean bytes of a request, by the examples in it."""
    sizes = [len(message) for message in pool.messages]
    return {
        str(count): sum(s for s, r in zip(sizes, pool.rows, strict=True) if r == count)
        / int((pool.rows == count).sum())
        for count in sorted(set(pool.rows.tolist()))
    }
