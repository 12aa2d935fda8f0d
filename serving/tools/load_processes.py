"""The processes that put load on a server, and their notes put together.

Open loop: requests leave at Poisson times whatever the server does, and latency counts
from the intended time. A server that stalls for a second so shows the second in every
request that should have been sent meanwhile. A closed loop, whose callers wait for
their answers, would leave these out: it says what the server can do, not what users
wait for.
"""

import contextlib
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
from serving.tools.load_outcome import LoadOutcome
from serving.tools.load_worker import NOT_SENT, RequestPool, SentRequests
from serving.tools.offered_load import OfferedLoad

_CODES = {code.value[0]: code.name for code in grpc.StatusCode} | {NOT_SENT: "NOT_SENT"}
_WORKER = "from serving.tools import load_worker; load_worker.run_process"
# From the last process's start to the first request.
_START_SECONDS = 0.2


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
    pipe, worker_end = multiprocessing.Pipe()
    number = worker_end.fileno()
    package = pathlib.Path(__file__).parents[2]
    path = os.pathsep.join(filter(None, [str(package), os.environ.get("PYTHONPATH")]))
    with worker_end:
        worker = subprocess.Popen(
            [sys.executable, "-c", f"{_WORKER}({number})"],
            pass_fds=[number],
            env=os.environ | {"PYTHONPATH": path},
        )
    return worker, pipe


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
    load: OfferedLoad, pool: RequestPool, sent: Sequence[SentRequests]
) -> LoadOutcome:
    def all_of(name: str) -> np.ndarray:
        return np.concatenate([getattr(part, name) for part in sent])

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
        [part.cpu_share for part in sent],
        codes[before],
        rows[carried_over],
    )
