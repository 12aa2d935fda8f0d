"""Requests written down, and read again: TFRecord files of PredictionLog.

The format of TF Serving's own request logs and of its warm-up requests.
"""

from collections.abc import Iterator, Sequence
from types import TracebackType

import tensorflow as tf
from google.protobuf import message
from tensorflow_serving.apis import predict_pb2, prediction_log_pb2

from serving.command import UserError
from serving.files import replacing
from serving.tools import rows


class Recorder:
    """Writes requests and their answers to one file, gzip if it ends in .gz.

    A context manager: the file appears complete at the end, or not at all.

    Args:
        path: of the file; its folders are made.
    """

    def __init__(self, path: str):
        self._aside = replacing(path)
        self._compression = "GZIP" if path.endswith(".gz") else ""

    def __enter__(self) -> "Recorder":
        path = self._aside.__enter__()
        self._writer = tf.io.TFRecordWriter(path, self._compression)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._writer.close()
        self._aside.__exit__(kind, error, trace)

    def write(
        self,
        request: predict_pb2.PredictRequest,
        response: predict_pb2.PredictResponse | None = None,
    ) -> None:
        """Adds a request, and what was answered to it if that is known."""
        log = prediction_log_pb2.PredictLog(request=request, response=response)
        entry = prediction_log_pb2.PredictionLog(predict_log=log)
        self._writer.write(entry.SerializeToString())


def read_requests(paths: Sequence[str]) -> Iterator[prediction_log_pb2.PredictLog]:
    """The Predict calls in files of PredictionLog; calls of other kinds are left out.

    Raises:
        UserError: a record is none.
    """
    for number, record in enumerate(rows.records(paths)):
        try:
            entry = prediction_log_pb2.PredictionLog.FromString(record)
        except message.DecodeError:
            entry = None
        if entry is None or entry.WhichOneof("log_type") is None:
            raise UserError(
                f"Record {number} of {', '.join(paths)} is not a PredictionLog."
            )
        if entry.HasField("predict_log"):
            yield entry.predict_log
