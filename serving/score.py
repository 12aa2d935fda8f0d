"""Scores a TFRecord or parquet file against a server, into a parquet file.

    python -m serving.score --server localhost:8500 --model mine \\
        --examples "data/mine/test/*.tfrecord.gz" --out scores.parquet
"""

import argparse
import collections
import concurrent.futures
import contextlib
import dataclasses
import sys
from collections.abc import Iterator, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tqdm import tqdm

from serving import connection
from serving.client import Client, predict_request, read_prediction
from serving.command import UserError, run_command
from serving.files import replacing
from serving.tools import rows
from serving.tools.recording import Recorder

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
    paths = rows.match_files(arguments.parquet if is_parquet else arguments.examples)
    server = connection.from_arguments(arguments, arguments.server)
    # The client is closed before the threads are waited for: after an error, calls of
    # other batches end at once.
    with (
        concurrent.futures.ThreadPoolExecutor(arguments.in_flight) as pool,
        Client(server, timeout_seconds=arguments.timeout_seconds) as client,
    ):
        count, version = _score(client, pool, arguments, paths)
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


def _score(client: Client, pool, arguments, paths) -> tuple[int, int]:
    """Writes the scores; returns the number of rows and the version that answered."""
    default = _EXAMPLES if arguments.parquet is None else _PARQUET
    key = arguments.signature or default
    # Pinned: a file must not be scored by two versions if a new one appears meanwhile.
    version = arguments.version or _newest(client, arguments.model)
    signatures = client.signatures(arguments.model, version=version)
    if key not in signatures:
        raise UserError(
            f"--signature {key!r} must be one of {sorted(signatures)} of the model."
        )
    chosen = arguments.outputs.split(",") if arguments.outputs else ()
    keep = arguments.keep.split(",") if arguments.keep else []

    def ask(batch: _Batch):
        request = predict_request(
            arguments.model,
            batch.inputs,
            signature=key,
            version=version,
            outputs=chosen,
        )
        return request, client.send(request)

    writer, progress = None, _Progress(arguments, paths)
    batches = _batches(arguments, paths, key, signatures[key])
    with contextlib.ExitStack() as stack:
        aside = stack.enter_context(replacing(arguments.out))
        log = arguments.record and stack.enter_context(Recorder(arguments.record))
        stack.enter_context(progress.bar)
        for batch, (request, response) in _in_order(
            ask, batches, pool, arguments.in_flight
        ):
            table = _table(read_prediction(response).outputs, batch, keep)
            if writer is None:
                writer = stack.enter_context(pq.ParquetWriter(aside, table.schema))
            writer.write_table(table)
            if log:
                log.write(request, response)
            progress.add(batch)
        if writer is None:
            raise UserError(f"There are no rows in {', '.join(paths)}.")
    return progress.rows, version


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Rows of a file: what is sent, and the parquet columns they come from."""

    rows: int
    bytes: int
    inputs: rows.Inputs
    original: pa.RecordBatch | None = None


class _Progress:
    """A progress bar with the time that is left."""

    def __init__(self, arguments, paths: Sequence[str]):
        self.rows = self._bytes = 0
        is_parquet = arguments.parquet is not None
        self._all_bytes = None if is_parquet else rows.record_bytes(paths)
        self.bar = tqdm(
            total=rows.parquet_rows(paths) if is_parquet else None,
            unit=" rows",
            file=sys.stderr,
            # A log file gets a line now and then.
            mininterval=0.2 if sys.stderr.isatty() else 10.0,
        )

    def add(self, batch: _Batch) -> None:
        self.rows += batch.rows
        self._bytes += batch.bytes
        if self._all_bytes is not None:
            # TFRecords do not say how many they are: as many as fit in their bytes.
            share = self._bytes / max(self._all_bytes, self._bytes)
            self.bar.total = max(self.rows, round(self.rows / share))
        self.bar.update(batch.rows)


def _newest(client: Client, model: str) -> int:
    available = [v for v, s in client.states(model).items() if s == "AVAILABLE"]
    if not available:
        raise UserError(f"No version of --model {model!r} is available.")
    return max(available)


def _batches(arguments, paths, key, signature) -> Iterator[_Batch]:
    if arguments.parquet is not None:
        found = rows.parquet_batches(paths, signature, arguments.batch)
        for inputs, original in found:
            yield _Batch(len(original), original.nbytes, inputs, original)
    else:
        alias = rows.example_input(key, signature)
        for inputs in rows.example_batches(paths, alias, arguments.batch):
            # A record has 16 bytes of its own in the file.
            total = sum(len(one) + 16 for one in inputs[alias])
            yield _Batch(len(inputs[alias]), total, inputs)


def _in_order(ask, batches: Iterator[_Batch], pool, in_flight: int) -> Iterator:
    """(batch, answer) of each of `batches`, a few of them asked for at once."""
    pending = collections.deque()
    for batch in batches:
        pending.append((batch, pool.submit(ask, batch)))
        if len(pending) > in_flight:
            first, future = pending.popleft()
            yield first, future.result()
    while pending:
        first, future = pending.popleft()
        yield first, future.result()


def _table(outputs, batch: _Batch, keep: Sequence[str]) -> pa.Table:
    columns = {}
    for name in keep:
        if name not in batch.original.schema.names:
            raise UserError(f"--keep {name!r} is not a column of --parquet.")
        columns[name] = batch.original.column(name)
    for name, array in sorted(outputs.items()):
        if array.ndim == 0 or len(array) != batch.rows:
            raise UserError(
                f"Output {name!r} must have a row for each of the {batch.rows} sent. "
                f"Received the shape {list(array.shape)}; choose others by --outputs."
            )
        if name in columns:
            raise UserError(f"--keep {name!r} is an output of the model too.")
        columns[name] = _column(array)
    return pa.table(columns)


def _column(array: np.ndarray) -> pa.Array:
    if array.dtype.kind == "V":
        # bfloat16, which Arrow does not know.
        array = array.astype(np.float32)
    column = pa.array(array.reshape(-1))
    for size in reversed(array.shape[1:]):
        column = pa.FixedSizeListArray.from_arrays(column, size)
    return column


if __name__ == "__main__":
    sys.exit(run_command(main))
