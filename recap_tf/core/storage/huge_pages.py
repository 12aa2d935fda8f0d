"""Large tables in pages of 2 MiB, for updates that touch rows all over them.

A row far from the last one costs the processor a look into tables of pages, which for
pages of 4 KiB are too large for its caches.
"""

import contextlib
import ctypes

import numpy as np
import tensorflow as tf

# From mman.h: MADV_HUGEPAGE, MADV_COLLAPSE (since Linux 6.1).
_USE_HUGE_PAGES, _USE_THEM_NOW = 14, 25
_PAGE = 2 << 20
_LEAST_BYTES = 16 << 20


def use_huge_pages(variable: tf.Variable) -> None:
    """Has the system keep a variable in pages of 2 MiB.

    A variable on this machine's CPU, of at least 16 MiB, that no row was read of yet:
    TensorFlow then hands out its memory itself. Does nothing with any other, in a
    graph, or where the system does not offer it.
    """
    if not tf.executing_eagerly() or not _is_on_this_cpu(variable):
        return
    if variable.shape.num_elements() * variable.dtype.size < _LEAST_BYTES:
        return
    try:
        memory = np.frombuffer(memoryview(variable.read_value()), np.uint8)
    except (BufferError, TypeError, ValueError):
        return  # Of a type that Python does not know.
    start = -(-memory.ctypes.data // _PAGE) * _PAGE
    end = (memory.ctypes.data + memory.nbytes) // _PAGE * _PAGE
    with contextlib.suppress(OSError, AttributeError):
        advise = ctypes.CDLL(None).madvise
        advise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
        for advice in (_USE_HUGE_PAGES, _USE_THEM_NOW):
            advise(start, end - start, advice)


def _is_on_this_cpu(variable) -> bool:
    if not isinstance(variable, tf.Variable) or variable.dtype == tf.string:
        return False
    device = tf.DeviceSpec.from_string(variable.device)
    return device.device_type in (None, "CPU") and device.job in (None, "localhost")
