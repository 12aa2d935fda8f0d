"""Requests recorded with an export, that a server answers before it takes traffic."""

from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import input_pb2, prediction_log_pb2

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.config.gin_names import did_you_mean
from recap_tf.data import record_files
from recap_tf.data.record_batches import Records

WARMUP_FILE = "assets.extra/tf_serving_warmup_requests"
"""A TFRecord of PredictionLog, below the folder of a version."""
MOST_REQUESTS = 1000
"""TF Serving refuses a version with more."""
_WITHOUT_REQUESTS = ("tasks",)


def check_sizes(sizes: Mapping[str, Sequence[int]], signatures: Iterable[str]) -> None:
    """Raises UserError unless requests of `sizes` can be recorded for `signatures`."""
    setting = "recap.export.warmup_sizes"
    known = sorted(set(signatures) - set(_WITHOUT_REQUESTS))
    for name in sizes:
        if name not in known:
            raise UserError(
                f"{setting} names the signature {name!r}; expected some of {known}."
                f"{did_you_mean(name, known)}"
            )
        if not sizes[name]:
            raise UserError(
                f"{setting}[{name!r}] must be at least one size. Received: "
                f"{sizes[name]!r}"
            )
    count = sum(map(len, sizes.values()))
    if count > MOST_REQUESTS:
        raise UserError(
            f"{setting} must be at most {MOST_REQUESTS} requests, more are refused by "
            f"servers. Received: {count}"
        )


def write_warmup_requests(
    path: str,
    model_name: str,
    sizes: Mapping[str, Sequence[int]],
    records: Records,
    request: Callable[[str, np.ndarray], Mapping[str, np.ndarray]],
) -> None:
    """Writes a PredictionLog for each size of each signature.

    Args:
        path: of the TFRecord; what is there is replaced.
        model_name: as the requests name it; servers look at the signature alone.
        sizes: signature -> rows of each request; see `check_sizes`.
        records: its first records are the rows, over and over if they are too few.
        request: signature and (rows,) serialized examples -> the request's inputs.

    Raises:
        ValueError: there are no records.
    """
    most = max(rows for requests in sizes.values() for rows in requests)
    examples = _first_records(records, most)
    with files.replacing(path) as aside, tf.io.TFRecordWriter(aside) as writer:
        for signature, requests in sizes.items():
            for size in requests:
                rows = np.resize(examples, size)
                log = prediction_log(model_name, signature, rows, request)
                writer.write(log.SerializeToString())


def prediction_log(
    model_name: str,
    signature: str,
    examples: np.ndarray,
    request: Callable[[str, np.ndarray], Mapping[str, np.ndarray]],
) -> prediction_log_pb2.PredictionLog:
    """A recorded request that scores examples.

    Args:
        model_name, signature, request: see `write_warmup_requests`.
        examples: (rows,) serialized.
    """
    log = prediction_log_pb2.PredictionLog()
    if signature in ("classify", "regress"):
        wanted = getattr(log, f"{signature}_log").request
        wanted.input.CopyFrom(_input(examples))
    else:
        wanted = log.predict_log.request
        for name, value in request(signature, examples).items():
            wanted.inputs[name].CopyFrom(tf.make_tensor_proto(value))
    wanted.model_spec.name = model_name
    wanted.model_spec.signature_name = signature
    return log


def _input(examples: np.ndarray) -> input_pb2.Input:
    given = input_pb2.Input()
    for example in examples:
        given.example_list.examples.add().MergeFromString(example)
    return given


def _first_records(records: Records, count: int) -> np.ndarray:
    first: list[bytes] = []
    for path in records.paths():
        opened = record_files.open_records(path, record_files.compression(path))
        first += opened.take(count - len(first)).as_numpy_iterator()
        if len(first) == count:
            break
    if not first:
        raise UserError(
            "recap.export.warmup_sizes needs a record of the training data, which has "
            f"none. Received: {records.paths()}"
        )
    rows = np.empty(len(first), object)
    rows[:] = first
    return rows
