"""Work that requests do not wait for."""

import concurrent.futures
import os
import sys
import threading
from collections.abc import Callable

_NICE = 10
"""Steps down: when all cores are busy, a tenth of another thread's time is left."""


def run_behind_requests(function: Callable[[], object]) -> object:
    """Returns `function()`, run when threads of this process leave a core free.

    It must not hold what requests need, the interpreter least of all: they would wait
    for a thread that waits for them. Under other systems than Linux, where a thread has
    no priority of its own, it is run as it is.
    """
    # A thread of its own: without privileges none gets its priority back.
    with concurrent.futures.ThreadPoolExecutor(1, initializer=_step_back) as pool:
        return pool.submit(function).result()


def _step_back() -> None:
    if sys.platform == "linux":
        thread = os.PRIO_PROCESS, threading.get_native_id()
        os.setpriority(*thread, min(19, os.getpriority(*thread) + _NICE))
