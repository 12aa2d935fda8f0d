"""One process of a load test: sends requests at their times and notes the answers.

Imports no TensorFlow, so that processes start at once and are small.
"""

import dataclasses
import sys
import threading
import time
from multiprocessing.connection import Connection as Pipe

import grpc
import numpy as np

from serving.freed_memory import keep_freed_memory
from serving.tools.offered_load import ProcessShare

PREDICT = "/tensorflow.serving.PredictionService/Predict"
NOT_SENT = -1
"""In place of a gRPC code: the client had too much under way, or was too late."""

_MOST_BYTES_IN_FLIGHT = 256 << 20
_MOST_IN_FLIGHT = 4096
_CONNECT_SECONDS = 20.0


@dataclasses.dataclass(frozen=True, kw_only=True)
class RequestPool:
    """The requests that a load test draws from.

    Args:
        messages: serialized PredictRequests.
        rows: examples in each of them, (messages,).
        probabilities: of each of them to be sent next, (messages,); their sum is 1.
    """

    messages: list[bytes]
    rows: np.ndarray
    probabilities: np.ndarray


@dataclasses.dataclass(frozen=True)
class SentRequests:
    """What became of the requests; times in seconds, one element per request.

    Args:
        intended: when it was to be sent, counted from the start.
        lag: how much later than that it was sent.
        latency: from the intended time to the answer; NaN if it was not sent.
        choice: its place among the pool's messages.
        code: gRPC's code as a number, or NOT_SENT.
        cpu_share: the share of one core that the process took.
    """

    intended: np.ndarray
    lag: np.ndarray
    latency: np.ndarray
    choice: np.ndarray
    code: np.ndarray
    cpu_share: float


def poisson_times(rate: float, seconds: float, rng: np.random.Generator) -> np.ndarray:
    """The times in [0, seconds) of arrivals that know nothing of each other."""
    # Given their number, the times are uniform.
    return np.sort(rng.random(rng.poisson(rate * seconds)) * seconds)


def run_process(pipe_number: int) -> None:
    """The whole process, talking to its parent through that file descriptor.

    Gets (server, pool, share), connects, sends None, gets the time of the common
    start, and sends a `SentRequests` at the end; or text, if it cannot connect.
    """
    # The sender must not wait 5 ms for the thread that takes the answers.
    sys.setswitchinterval(0.0002)
    keep_freed_memory()
    with Pipe(pipe_number) as pipe:
        server, pool, share = pipe.recv()
        channels = [server.open() for _ in range(share.channels)]
        try:
            for channel in channels:
                grpc.channel_ready_future(channel).result(_CONNECT_SECONDS)
        except grpc.FutureTimeoutError:
            pipe.send(f"{server.target} could not be connected to.")
            return
        pipe.send(None)
        pipe.send(_Sender(channels, pool, share).run(start=pipe.recv()))
        for channel in channels:
            channel.close()


class _Sender:
    def __init__(self, channels, pool: RequestPool, share: ProcessShare):
        self._calls = [
            # The bytes as they are: serializing here would cost the server's time.
            channel.unary_unary(
                PREDICT, request_serializer=None, response_deserializer=None
            )
            for channel in channels
        ]
        self._pool, self._share = pool, share
        self._rng = np.random.default_rng(share.seed)
        largest = max(map(len, pool.messages))
        most = min(max(_MOST_BYTES_IN_FLIGHT // max(largest, 1), 16), _MOST_IN_FLIGHT)
        self._places = threading.Semaphore(
            most if share.rate is not None else share.callers
        )
        # (intended, lag, latency, choice, code); lists, for a closed loop does not
        # know how many there will be.
        self._notes: list[tuple[float, float, float, int, int]] = []
        self._under_way = 0
        self._changed = threading.Condition()

    def run(self, start: float) -> SentRequests:
        _sleep_until(start)
        cpu, began = time.process_time(), time.monotonic()
        if self._share.rate is not None:
            self._send_at_times(start)
        else:
            self._send_in_turn(start)
        cpu = (time.process_time() - cpu) / max(time.monotonic() - began, 1e-9)
        with self._changed:
            # Every request has a deadline.
            self._changed.wait_for(lambda: not self._under_way)
        columns = list(zip(*self._notes, strict=True)) or [()] * 5
        kinds = (float, float, float, int, int)
        arrays = [np.array(c, k) for c, k in zip(columns, kinds, strict=True)]
        return SentRequests(*arrays, cpu)

    def _send_at_times(self, start: float) -> None:
        times = poisson_times(self._share.rate, self._share.seconds, self._rng)
        for intended, choice in zip(times, self._choices(len(times)), strict=True):
            _sleep_until(start + intended)
            if self._places.acquire(blocking=False):
                self._send(start, intended, choice)
            else:
                self._notes.append((intended, 0.0, np.nan, choice, NOT_SENT))

    def _send_in_turn(self, start: float) -> None:
        end, chosen = start + self._share.seconds, iter(())
        while self._places.acquire(timeout=max(end - time.monotonic(), 0)):
            now = time.monotonic()
            if now >= end:
                break
            choice = next(chosen, None)
            if choice is None:
                chosen = iter(self._choices(1024))
                choice = next(chosen)
            self._send(start, now - start, choice)

    def _choices(self, count: int) -> list[int]:
        probabilities = self._pool.probabilities
        return self._rng.choice(len(probabilities), count, p=probabilities).tolist()

    def _send(self, start: float, intended: float, choice: int) -> None:
        lag = time.monotonic() - start - intended
        left = self._share.timeout_seconds - lag
        if left <= 0:
            self._places.release()
            self._notes.append((intended, lag, np.nan, choice, NOT_SENT))
            return
        with self._changed:
            self._under_way += 1
        call = self._calls[choice % len(self._calls)]
        future = call.future(self._pool.messages[choice], timeout=left)

        def answered(future: grpc.Future) -> None:
            latency = time.monotonic() - start - intended
            code = future.code().value[0]
            self._notes.append((intended, lag, latency, choice, code))
            self._places.release()
            with self._changed:
                self._under_way -= 1
                self._changed.notify()

        future.add_done_callback(answered)


def _sleep_until(moment: float) -> None:
    left = moment - time.monotonic()
    if left > 0:
        time.sleep(left)
