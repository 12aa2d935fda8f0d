"""Load on a server: several processes send requests, and their notes are put together.

Open loop: requests leave at Poisson times whatever the server does, and latency counts
from the intended time. A server that stalls for a second so shows the second in every
request that should have been sent meanwhile. A closed loop, whose callers wait for
their answers, would leave these out: it says what the server can do, not what users
wait for.
"""

import contextlib
import dataclasses
import multiprocessing
import os
import pathlib
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from multiprocessing.connection import Connection as Pipe

import grpc
import numpy as np

from serving.command import UserError
from serving.connection import Connection
from serving.tools.load_worker import NOT_SENT, ProcessShare, RequestPool, SentRequests

PERCENTILES = (50, 90, 95, 99, 99.9)

_CODES = {code.value[0]: code.name for code in grpc.StatusCode} | {NOT_SENT: "NOT_SENT"}
_WORKER = "from serving.tools import load_worker; load_worker.run_process"
# From the last process's start to the first request.
_START_SECONDS = 0.2
# Later than this at the 99th percentile, and a tenth of the latency there: the client.
_LATE_SECONDS = 0.001


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfferedLoad:
    """How much is sent, and for how long.

    Args:
        rate: requests per second; None for a closed loop.
        callers: of the closed loop, all processes together.
        seconds: that count.
        warmup_seconds: before them, at the same rate.
        timeout_seconds: deadline of a request.
        processes: that send.
        channels: connections of each process.
        seed: of times and choices.
    """

    rate: float | None = None
    callers: int = 0
    seconds: float = 30.0
    warmup_seconds: float = 5.0
    timeout_seconds: float = 10.0
    processes: int = 2
    channels: int = 1
    seed: int = 0

    def __post_init__(self):
        if (self.rate is None) == (self.callers == 0):
            raise UserError(
                f"--rate and --callers: give one. Received: {self.rate} and "
                f"{self.callers}"
            )
        if self.rate is None and self.callers < self.processes:
            raise UserError(
                f"--callers must be at least --processes, {self.processes}. Received: "
                f"{self.callers}"
            )
        for name in ("rate", "seconds", "timeout_seconds", "processes", "channels"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be positive. Received: {value}")
        if self.warmup_seconds < 0:
            raise UserError(
                "--warmup-seconds must not be negative. Received: "
                f"{self.warmup_seconds}"
            )

    def shares(self) -> list[ProcessShare]:
        """What each process does; Poisson times of all of them are Poisson again."""
        whole, rest = divmod(self.callers, self.processes)
        return [
            ProcessShare(
                rate=None if self.rate is None else self.rate / self.processes,
                callers=whole + (i < rest),
                seconds=self.warmup_seconds + self.seconds,
                timeout_seconds=self.timeout_seconds,
                channels=self.channels,
                seed=1000 * self.seed + i,
            )
            for i in range(self.processes)
        ]


@dataclasses.dataclass(frozen=True)
class LoadOutcome:
    """What became of the requests of a load test, warm-up left out.

    Args:
        load: what was asked for.
        intended: seconds from the start of what counts; one element per request, as
            in the arrays that follow.
        latency: seconds from then to the answer; NaN for those not sent.
        lag: seconds that the client sent them late.
        rows: examples in them.
        codes: names of gRPC's codes, or NOT_SENT.
        cpu_shares: of a core that each process took.
        warmup_codes: of those before.
        carried_over: rows of those of them that were answered after the start.
    """

    load: OfferedLoad
    intended: np.ndarray
    latency: np.ndarray
    lag: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    cpu_shares: Sequence[float]
    warmup_codes: np.ndarray
    carried_over: np.ndarray

    @property
    def answered(self) -> np.ndarray:
        """Which requests came back with a score."""
        return self.codes == "OK"

    def errors(self) -> dict[str, int]:
        """Code -> how many ended with it."""
        codes, counts = np.unique(self.codes[~self.answered], return_counts=True)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True))

    def throughput(self) -> tuple[float, float]:
        """Requests and examples per second that were answered while others were sent.

        Those that were sent in the warm-up and answered within the time count, those
        that were answered after it do not.
        """
        end = self.load.seconds
        within = self.answered & (self.intended + self.latency < end)
        rows = np.concatenate([self.rows[within], self.carried_over])
        return len(rows) / end, float(rows.sum()) / end

    def percentiles(self, rows: int | None = None) -> dict[str, float]:
        """Latency in ms of the answered requests, of that size or of all.

        Keys p50 ... p99.9, mean and max; empty if there are none.
        """
        chosen = self.answered
        if rows is not None:
            chosen = chosen & (self.rows == rows)
        latency = self.latency[chosen] * 1e3
        if not len(latency):
            return {}
        values = np.percentile(latency, PERCENTILES).tolist()
        found = {f"p{p:g}": v for p, v in zip(PERCENTILES, values, strict=True)}
        return found | {"mean": float(latency.mean()), "max": float(latency.max())}

    def lag_ms(self) -> float:
        """How late the client was at the 99th percentile."""
        return float(np.percentile(self.lag, 99)) * 1e3 if len(self.lag) else 0.0

    def client_was_the_bottleneck(self) -> bool:
        """Whether these are figures of the client rather than of the server."""
        if "NOT_SENT" in self.errors() or max(self.cpu_shares) > 0.9:
            return True
        late = max(_LATE_SECONDS * 1e3, 0.1 * self.percentiles().get("p99", 0.0))
        return self.load.rate is not None and self.lag_ms() > late


def run_load(server: Connection, pool: RequestPool, load: OfferedLoad) -> LoadOutcome:
    """Puts `load` on a server.

    Raises:
        UserError: the server cannot be connected to, or nothing was sent.
    """
    workers, pipes = [], []
    try:
        for _ in range(load.processes):
            worker, pipe = _start_worker()
            workers.append(worker)
            pipes.append(pipe)
        for pipe, share in zip(pipes, load.shares(), strict=True):
            _tell(pipe, (server, pool, share))
        for pipe in pipes:
            reason = _receive(pipe)
            if reason is not None:
                raise UserError(reason)
        start = time.monotonic() + _START_SECONDS
        for pipe in pipes:
            _tell(pipe, start)
        return _outcome(load, pool, [_receive(pipe) for pipe in pipes])
    finally:
        for worker in workers:
            worker.kill()
        for worker, pipe in zip(workers, pipes, strict=True):
            worker.wait()
            pipe.close()


def _start_worker() -> tuple[subprocess.Popen, Pipe]:
    # Not multiprocessing's own processes: they import the command again, and
    # TensorFlow with it.
    own, theirs = multiprocessing.Pipe()
    number = theirs.fileno()
    package = pathlib.Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    with theirs:
        worker = subprocess.Popen(
            [sys.executable, "-c", f"{_WORKER}({number})"],
            pass_fds=[number],
            env=os.environ | {"PYTHONPATH": path},
        )
    return worker, own


def _tell(pipe: Pipe, what) -> None:
    with _said_if_ended():
        pipe.send(what)


def _receive(pipe: Pipe):
    with _said_if_ended():
        return pipe.recv()


@contextlib.contextmanager
def _said_if_ended() -> Iterator[None]:
    try:
        yield
    except (EOFError, OSError) as error:
        raise UserError("A process of the load test has ended by itself.") from error


def _outcome(
    load: OfferedLoad, pool: RequestPool, found: Sequence[SentRequests]
) -> LoadOutcome:
    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(one, name) for one in found])

    intended = all_of("intended") - load.warmup_seconds
    latency, rows = all_of("latency"), pool.rows[all_of("choice")]
    codes = np.array([_CODES[code] for code in all_of("code").tolist()], str)
    order = np.argsort(intended, kind="stable")
    counted, before = order[intended[order] >= 0], order[intended[order] < 0]
    if not len(counted):
        raise UserError(f"No request falls into {load.seconds:g} s: raise --rate.")
    ends = intended + latency
    carried_over = (
        (intended < 0) & (codes == "OK") & (ends >= 0) & (ends < load.seconds)
    )
    return LoadOutcome(
        load,
        intended[counted],
        latency[counted],
        all_of("lag")[counted],
        rows[counted],
        codes[counted],
        [one.cpu_share for one in found],
        codes[before],
        rows[carried_over],
    )
