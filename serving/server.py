"""Serves SavedModels over TF Serving's gRPC and REST APIs.

python -m serving.server --port=8500 --model_name=mine --model_base_path=models/mine
"""

import concurrent.futures
import gc
import os
import signal
import sys
import threading
import time
import typing
from collections.abc import Sequence

from serving.command import quiet_tensorflow, say
from serving.errors import ServingError
from serving.freed_memory import give_tensors_back, keep_freed_memory
from serving.fronts.flags import Flags, parse_flags

if typing.TYPE_CHECKING:
    from serving.model_server import Server

# A thread that holds the interpreter while a version loads gives it up this often. A
# request asks for it a dozen times: at a fiftieth of the default, 5 ms, it waits about
# a millisecond in all.
_SWITCH_SECONDS = 0.0001


def main(argv: Sequence[str] | None = None) -> int:
    """Serves until told to end; exit code 2: the server could not start."""
    try:
        flags = parse_flags(argv)
        # TensorFlow takes seconds to import: --help and wrong flags do not wait for it.
        from serving.model_server import Server

        quiet_tensorflow()
        sys.setswitchinterval(_SWITCH_SECONDS)
        keep_freed_memory()
        server = Server(flags)
    except (ServingError, ValueError) as error:
        say(f"error: {error}")
        return 2
    return _serve(server, flags)


def _serve(server: "Server", flags: Flags) -> int:
    """Serves until the process is told to end; returns its exit code."""
    ended = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    started = time.monotonic()
    try:
        if not _start(server, ended):
            say("Stopping: nothing has been accepted yet.")
            return 0
    except ServingError as error:
        say(f"error: {error}")
        return 2
    places = (
        [f"gRPC on {flags.host}:{port}" for port in server.grpc.ports[:1]]
        if (server.grpc and flags.port)
        else []
    )
    if server.rest is not None:
        places.append(f"REST on {flags.host}:{server.rest.port}")
    # What is there by now stays: looking through it for garbage would stop all threads
    # for a fifth of a second.
    gc.collect()
    gc.freeze()
    say(f"Serving after {time.monotonic() - started:.1f} s: {', '.join(places)}")
    # A lock would keep signals waiting.
    while not ended.wait(0.2):
        pass
    say("Stopping: answering what was accepted.")
    server.drain()
    return 0


def _start(server: "Server", ended: threading.Event) -> bool:
    """Starts it; False if the process is told to end before models are loaded.

    Loading takes minutes, and with retries many: signals do not wait for it.
    """
    pool = concurrent.futures.ThreadPoolExecutor(1, "start")
    # A first load that fails ends the process: whoever started it notices, and tries
    # again. Models whose versions are still to come are waited for.
    starting = pool.submit(server.start, must_load=True)
    pool.shutdown(wait=False)
    while not starting.done() and not ended.is_set():
        concurrent.futures.wait([starting], 0.2)
    if starting.done():
        starting.result()
    return starting.done()


if __name__ == "__main__":
    # Here, not in `main`: the environment is that of the whole process.
    give_tensors_back()
    # Threads of TensorFlow and gRPC may still be about; everything is answered.
    code = main()
    sys.stderr.flush()
    os._exit(code)
