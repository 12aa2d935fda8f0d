"""Files scored against a server: rows in, and their scores in the same order."""

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

from serving.client import Client
from serving.command import UserError
from serving.connection import Connection
from serving.files import replacing
from serving.predict_messages import predict_request, read_prediction
from serving.tools import rows
from serving.tools.recording import Recorder


def score_files(server: Connection, arguments: argparse.Namespace) -> tuple[int, int]:
    """Writes the scores of files to `arguments.out`, parquet.

    Args:
        server: that scores them.
        arguments: of `serving.score`, with the signature's key filled in.

    Returns:
        the number of rows, and the version that scored all of them.

    Raises:
        UserError: the files or the signature do not do.
        CallError: the server does not answer.
    """
    is_parquet = arguments.parquet is not None
    paths = rows.match_files(arguments.parquet if is_parquet else arguments.examples)
    # The client is closed before the threads are waited for: after an error, calls of
    # other batches end at once.
    with (
        concurrent.futures.ThreadPoolExecutor(arguments.in_flight) as pool,
        Client(server, timeout_seconds=arguments.timeout_seconds) as client,
    ):
        return _score(client, pool, arguments, paths)


def _score(client: Client, pool, arguments, paths) -> tuple[int, int]:
    """Writes the scores; returns the number of rows and the version that answered."""
    key = arguments.signature
    # Pinned: a file must not be scored by two versions if a new one appears meanwhile.
    version = arguments.version
    if version is None:
        version = _newest(client, arguments.model)
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
        response = client.send(request)
        answered = response.model_spec.version.value
        if answered != version:
            # `serving.server` takes a version 0 that is not there for the newest.
            raise UserError(
                f"--version {version} of --model {arguments.model!r} is not served: "
                f"version {answered} answered."
            )
        return request, response

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
        pairs = rows.parquet_batches(paths, signature, arguments.batch)
        for inputs, original in pairs:
            yield _Batch(len(original), original.nbytes, inputs, original)
    else:
        alias = rows.example_input(key, signature)
        for inputs in rows.example_batches(paths, alias, arguments.batch):
            # A record has 16 bytes of its own in the file.
            total = sum(len(record) + 16 for record in inputs[alias])
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
        count = batch.original.schema.names.count(name)
        if count != 1:
            what = "is not a column" if count == 0 else "is the name of several columns"
            raise UserError(f"--keep {name!r} {what} of --parquet.")
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
