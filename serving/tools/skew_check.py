"""The skew check: the same requests to two models, and how their answers differ."""

import argparse
import contextlib
import dataclasses
import itertools
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from tensorflow_serving.apis import prediction_log_pb2

from serving.command import UserError
from serving.connection import Connection
from serving.errors import ServingError
from serving.files import write_text
from serving.predict_messages import predict_request
from serving.tools import recording, rows
from serving.tools.answerer_names import ServedName
from serving.tools.answerers import Answerer, open_answerer
from serving.tools.differences import Differences

_MOST_FAILURES_SHOWN = 5


def check_skew(
    sides: tuple[ServedName | str, ServedName | str],
    tls: Connection,
    tolerances: Mapping[str, float],
    arguments: argparse.Namespace,
) -> list[str]:
    """Replays requests against both sides, and prints and writes the differences.

    Args:
        sides: what `parse_answerer` made of the two arguments.
        tls: TLS files to reach servers with.
        tolerances: output -> largest difference of a value; that of "" is for all
            others.
        arguments: of `serving.compare`.

    Returns:
        a line for each difference beyond what is tolerated.

    Raises:
        UserError: no request was answered by both, or an output is not there.
        ServingError: a side cannot be asked at all.
    """
    with contextlib.ExitStack() as stack:
        opened = []
        for name in sides:
            side = open_answerer(
                name, tls=tls, timeout_seconds=arguments.timeout_seconds
            )
            stack.callback(side.close)
            opened.append(side)
        differences = _compare(
            *opened, itertools.islice(_requests(arguments), arguments.limit)
        )
    if not differences.compared:
        reason = f": {differences.failures[0]}" if differences.failures else "."
        raise UserError(f"No request was answered by both sides{reason}")
    beyond = _beyond(differences, tolerances, arguments.rank_tolerance)
    print(_text(differences))
    for line in beyond:
        print(f"BEYOND  {line}")
    if arguments.json:
        report = _as_json(differences, beyond)
        write_text(arguments.json, json.dumps(report, indent=1) + "\n")
    return beyond


def _requests(
    arguments: argparse.Namespace,
) -> Iterator[prediction_log_pb2.PredictLog]:
    if arguments.requests is not None:
        yield from recording.read_requests(rows.match_files(arguments.requests))
        return
    paths = rows.match_files(arguments.examples)
    for inputs in rows.example_batches(paths, arguments.input, arguments.batch):
        request = predict_request("", inputs, signature=arguments.signature)
        yield prediction_log_pb2.PredictLog(request=request)


def _compare(
    left: Answerer, right: Answerer, requests: Iterable[prediction_log_pb2.PredictLog]
) -> Differences:
    differences = Differences()
    for number, log in enumerate(requests):
        answers, failures = [], []
        for side in (left, right):
            try:
                answers.append(side.outputs(log))
                failures.append(None)
            except ServingError as error:
                failures.append(error)
        if len(answers) == 2:
            differences.add(number, *answers)
        elif not answers and failures[0].code is failures[1].code:
            differences.failed_alike += 1
        else:
            said = [
                "answered" if error is None else f"{error.code.name} {error.message}"
                for error in failures
            ]
            differences.failures.append(
                f"request {number}: {said[0]} against {said[1]}"
            )
    return differences


def _beyond(
    differences: Differences,
    tolerances: Mapping[str, float],
    rank_tolerance: float | None,
) -> list[str]:
    unknown = sorted(tolerances.keys() - differences.outputs.keys() - {""})
    if unknown:
        raise UserError(
            f"--tolerance {unknown[0]!r} must be one of the outputs "
            f"{sorted(differences.outputs)}."
        )
    lines = [
        f"{name}: differs by {output.largest:.3g}, more than {allowed:g}"
        for name, output in differences.outputs.items()
        if output.largest > (allowed := tolerances.get(name, tolerances[""]))
    ]
    if rank_tolerance is not None:
        lines += [
            f"{name}: {output.moved_share:.3%} of the rows have another rank, more "
            f"than {rank_tolerance:.3%}"
            for name, output in differences.outputs.items()
            if output.moved_share > rank_tolerance
        ]
    if differences.failures:
        lines.append(f"{len(differences.failures)} requests were not answered alike")
    return lines


def _text(differences: Differences) -> str:
    lines = [
        f"{differences.compared} requests compared, {differences.failed_alike} failed "
        f"with the same code on both sides, {len(differences.failures)} were not "
        "answered alike"
    ]
    lines += [f"  {line}" for line in differences.failures[:_MOST_FAILURES_SHOWN]]
    width = max(map(len, [*differences.outputs, "output"]))
    lines.append(
        f"{'output':<{width}}  {'max':>9}  {'mean':>9}  {'differ':>8}  "
        f"{'rank moved':>10}  {'farthest':>8}  other first"
    )
    for name, output in differences.outputs.items():
        differ = output.unequal / output.values if output.values else 0.0
        lines.append(
            f"{name:<{width}}  {output.largest:9.3g}  {output.mean:9.3g}  "
            f"{differ:8.2%}  {output.moved_share:10.2%}  {output.farthest:8}  "
            f"{output.other_first} of {output.rankings}"
        )
    for name, output in differences.outputs.items():
        if output.largest > 0:
            number, place, left, right = output.worst
            lines.append(
                f"  {name}: farthest apart in request {number} at {place}: {left} "
                f"against {right}"
            )
    return "\n".join(lines)


def _as_json(differences: Differences, beyond: Sequence[str]) -> dict[str, Any]:
    return {
        "compared": differences.compared,
        "failed_alike": differences.failed_alike,
        "failures": differences.failures,
        "beyond": list(beyond),
        "outputs": {
            name: dataclasses.asdict(output)
            | {"mean": output.mean, "moved_share": output.moved_share}
            for name, output in differences.outputs.items()
        },
    }
