"""Skew check: replays requests against two models and says how their scores differ.

    python -m serving.compare --requests "logs/*.tfrecord" \\
        --left grpc://localhost:8500/mine --right models/mine/7 --tolerance 1e-5

Requests are PredictionLog records, as TF Serving's request logger, `serving.score
--record` and warm-up files have them, or tf.Examples. Exit code 1: more than tolerated.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence

from tensorflow_serving.apis import prediction_log_pb2

from serving import connection
from serving.client import predict_request
from serving.command import UserError, run_command
from serving.errors import ServingError
from serving.files import write_text
from serving.tools import recording, rows
from serving.tools.answerers import FORMS, Answerer, open_answerer
from serving.tools.differences import Differences

_MOST_FAILURES_SHOWN = 5


def main(argv: Sequence[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    for name in ("batch", "limit"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UserError(f"--{name} must be at least 1. Received: {value}")
    tolerances = _tolerances(arguments.tolerance)
    with contextlib.ExitStack() as stack:
        sides = []
        for text in (arguments.left, arguments.right):
            # The address is the side's own; of this one only TLS counts.
            tls = connection.from_arguments(arguments, "localhost:0")
            side = open_answerer(
                text, tls=tls, timeout_seconds=arguments.timeout_seconds
            )
            stack.callback(side.close)
            sides.append(side)
        found = _compare(
            *sides, itertools.islice(_requests(arguments), arguments.limit)
        )
    if not found.compared:
        reason = f": {found.failures[0]}" if found.failures else "."
        raise UserError(f"No request was answered by both sides{reason}")
    wrong = _beyond(found, tolerances, arguments.rank_tolerance)
    print(_text(found))
    for line in wrong:
        print(f"BEYOND  {line}")
    if arguments.json:
        write_text(arguments.json, json.dumps(_as_json(found, wrong), indent=1) + "\n")
    return 1 if wrong else 0


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
    """Output -> tolerance; "" for the others."""
    found = {"": 1e-5}
    for text in given:
        name, _, value = text.rpartition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = math.nan
        if not found[name] >= 0:
            raise UserError(
                "--tolerance must be a number that is not negative, or OUTPUT=NUMBER. "
                f"Received: {text!r}"
            )
    return found


def _requests(arguments) -> Iterator[prediction_log_pb2.PredictLog]:
    if arguments.requests is not None:
        yield from recording.read_requests(rows.match_files(arguments.requests))
        return
    paths = rows.match_files(arguments.examples)
    for inputs in rows.example_batches(paths, arguments.input, arguments.batch):
        request = predict_request("", inputs, signature=arguments.signature)
        yield prediction_log_pb2.PredictLog(request=request)


def _compare(left: Answerer, right: Answerer, requests) -> Differences:
    found = Differences()
    for number, log in enumerate(requests):
        answers, failures = [], []
        for side in (left, right):
            try:
                answers.append(side.outputs(log))
                failures.append(None)
            except ServingError as error:
                failures.append(error)
        if len(answers) == 2:
            found.add(number, *answers)
        elif not answers and failures[0].code is failures[1].code:
            found.failed_alike += 1
        else:
            said = [
                "answered" if error is None else f"{error.code.name} {error.message}"
                for error in failures
            ]
            found.failures.append(f"request {number}: {said[0]} against {said[1]}")
    return found


def _beyond(found: Differences, tolerances, rank_tolerance: float | None) -> list[str]:
    unknown = sorted(tolerances.keys() - found.outputs.keys() - {""})
    if unknown:
        raise UserError(
            f"--tolerance {unknown[0]!r} must be one of the outputs "
            f"{sorted(found.outputs)}."
        )
    lines = [
        f"{name}: differs by {one.largest:.3g}, more than {allowed:g}"
        for name, one in found.outputs.items()
        if one.largest > (allowed := tolerances.get(name, tolerances[""]))
    ]
    if rank_tolerance is not None:
        lines += [
            f"{name}: {one.moved_share:.3%} of the rows have another rank, more than "
            f"{rank_tolerance:.3%}"
            for name, one in found.outputs.items()
            if one.moved_share > rank_tolerance
        ]
    if found.failures:
        lines.append(f"{len(found.failures)} requests were not answered alike")
    return lines


def _text(found: Differences) -> str:
    lines = [
        f"{found.compared} requests compared, {found.failed_alike} failed with the "
        f"same code on both sides, {len(found.failures)} were not answered alike"
    ]
    lines += [f"  {line}" for line in found.failures[:_MOST_FAILURES_SHOWN]]
    width = max(map(len, [*found.outputs, "output"]))
    lines.append(
        f"{'output':<{width}}  {'max':>9}  {'mean':>9}  {'differ':>8}  "
        f"{'rank moved':>10}  {'farthest':>8}  other first"
    )
    for name, one in found.outputs.items():
        differ = one.unequal / one.values if one.values else 0.0
        lines.append(
            f"{name:<{width}}  {one.largest:9.3g}  {one.mean:9.3g}  {differ:8.2%}  "
            f"{one.moved_share:10.2%}  {one.farthest:8}  "
            f"{one.other_first} of {one.rankings}"
        )
    for name, one in found.outputs.items():
        if one.largest > 0:
            number, place, left, right = one.worst
            lines.append(
                f"  {name}: farthest apart in request {number} at {place}: {left} "
                f"against {right}"
            )
    return "\n".join(lines)


def _as_json(found: Differences, wrong: Sequence[str]) -> dict:
    return {
        "compared": found.compared,
        "failed_alike": found.failed_alike,
        "failures": found.failures,
        "beyond": list(wrong),
        "outputs": {
            name: dataclasses.asdict(one)
            | {"mean": one.mean, "moved_share": one.moved_share}
            for name, one in found.outputs.items()
        },
    }


if __name__ == "__main__":
    sys.exit(run_command(main))
