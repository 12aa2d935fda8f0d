"""What the C library's allocator does with memory that was freed."""

import contextlib
import ctypes
import gc

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


def give_memory_back() -> None:
    """Gives all memory that is free to the system."""
    gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
