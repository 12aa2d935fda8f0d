"""Batching: requests of many callers in one run of the model, by TensorFlow's op."""

import itertools
import threading
import time
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

from serving.models.batching_settings import Batching
from serving.monitoring import ModelRuns

# Two batch ops of one name would answer for each other.
_numbers = itertools.count()


class Tickets:
    """Numbers and times that travel with the rows through the batch op.

    TensorFlow's own counters of its batches cannot be read from Python. So each row
    goes in with (number, time of its arrival), and comes out with

        time at which its batch started, the batch's earliest arrival, the batch's
        examples, the same with padding, 1 in the batch's first row and 0 elsewhere

    Padding repeats rows; by their numbers the real ones are told apart.
    """

    IN = 2
    OUT = 5

    def __init__(self):
        self._lock = threading.Lock()
        self._next = 0

    def take(self, rows: int) -> np.ndarray:
        """Tickets for the rows of a request, (rows, IN) float64."""
        with self._lock:
            first, self._next = self._next, self._next + rows
        tickets = np.empty([rows, self.IN])
        tickets[:, 0] = np.arange(first, first + rows)
        tickets[:, 1] = time.time()
        return tickets

    @staticmethod
    def count(
        taken: np.ndarray,
        stamped: np.ndarray,
        signature: str,
        runs: ModelRuns,
        pool: str,
    ) -> None:
        """Counts what happened to a request, and the batches that it came first in."""
        if not len(stamped):
            return
        waited = stamped[:, 0].max() - taken[0, 1]
        runs.waited(signature, waited, len(taken), pool)
        for started, earliest, examples, padded, _ in stamped[stamped[:, 4] > 0]:
            runs.batch(signature, int(examples), int(padded), started - earliest)


def _stamped(tickets: tf.Tensor) -> tf.Tensor:
    rows = tf.shape(tickets)[0]
    batch = [
        tf.timestamp(),
        tf.reduce_min(tickets[:, 1]),
        tf.cast(tf.size(tf.unique(tickets[:, 0]).y), tf.float64),
        tf.cast(rows, tf.float64),
    ]
    first = tf.one_hot(0, rows, dtype=tf.float64)[:, None]
    return tf.concat([tf.tile(tf.stack(batch)[None], [rows, 1]), first], axis=1)


def batched(
    function: Callable[..., Sequence[tf.Tensor]],
    inputs: Sequence[tf.Tensor],
    tickets: tf.Tensor,
    settings: Batching,
) -> list[tf.Tensor]:
    """Adds `function(*inputs)` to the graph, run on several callers' rows at once.

    All inputs and outputs have rows of one example each; the inputs of all callers
    agree in the other dimensions. The last output says what became of each row; see
    `Tickets`.
    """
    number = next(_numbers)
    inputs = [*inputs, tickets]
    signature = [
        tf.TensorSpec(tensor.shape, tensor.dtype, f"input_{i}")
        for i, tensor in enumerate(inputs)
    ]

    def body(*tensors):
        *rows, tickets = tensors
        return [*function(*rows), _stamped(tickets)]

    body.__name__ = f"batch_{number}"
    computed = tf.function(
        body, input_signature=signature, autograph=False
    ).get_concrete_function()
    sizes, largest = list(settings.allowed_batch_sizes), settings.execution_size
    if settings.enable_large_batch_splitting:
        # The op takes the last of the allowed sizes for the largest batch; with all
        # sizes allowed none is padded.
        sizes = [s for s in sizes or range(1, largest) if s < largest] + [largest]
    return tf.raw_ops.BatchFunction(
        in_tensors=inputs,
        captured_tensors=computed.captured_inputs,
        f=computed,
        num_batch_threads=settings.num_batch_threads,
        max_batch_size=settings.max_batch_size,
        batch_timeout_micros=settings.batch_timeout_micros,
        Tout=[output.dtype for output in computed.outputs],
        max_enqueued_batches=settings.max_enqueued_batches,
        allowed_batch_sizes=sizes,
        shared_name=f"batch_{number}",
        enable_large_batch_splitting=settings.enable_large_batch_splitting,
    )
