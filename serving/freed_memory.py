"""Freed memory: given back to the system after an unload, or used again at once.

Also when Python looks for garbage: not while a graph is made.
"""

import contextlib
import ctypes
import gc
import os
import threading
from collections.abc import Iterator

# From malloc.h: M_MMAP_MAX, M_TRIM_THRESHOLD, M_ARENA_MAX.
_KEEP = {-4: 0, -1: 256 << 20, -8: 1}


def keep_freed_memory() -> None:
    """Lets this process use freed memory again, up to a bound of 256 MiB.

    By default glibc gives a large block back to the system and maps the next one anew:
    page faults are four fifths of what a message of tens of megabytes costs, at
    either end. Does nothing under another C library.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL("libc.so.6").mallopt
        for parameter, value in _KEEP.items():
            mallopt(parameter, value)


def give_tensors_back() -> None:
    """Lets TensorFlow free the memory of large tensors; before the first one is made.

    With oneDNN its own allocator keeps what it has once got: the memory of a version
    that went would not come back to the system.
    """
    os.environ.setdefault("TF_ONEDNN_USE_SYSTEM_ALLOCATOR", "1")


def give_memory_back() -> None:
    """Gives all memory that is free to the system, that of garbage as well."""
    gc.collect()
    trim()


def trim() -> None:
    """Gives all memory that is free to the system."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


_lock = threading.Lock()
_loads = 0


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Keeps Python from looking for garbage; several threads may ask for it at once.

    While a graph of many objects is made it would do so again and again, and stop all
    threads for it.
    """
    global _loads
    with _lock:
        _loads += 1
        gc.disable()
    try:
        yield
    finally:
        with _lock:
            _loads -= 1
            if not _loads:
                gc.enable()
