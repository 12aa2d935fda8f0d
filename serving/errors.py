"""Errors that reach a client: a status with TF Serving's message, and nothing else.

Imports no TensorFlow: the commands need these errors before they know their task.
"""

import contextlib
import sys
import traceback
from collections.abc import Iterator

from serving.status_codes import Code


class ServingError(Exception):
    """A request that cannot be answered, or a model that cannot be loaded."""

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code
        self.message = message


def invalid(message: str) -> ServingError:
    """The error INVALID_ARGUMENT with that message."""
    return ServingError(Code.INVALID_ARGUMENT, message)


def proper_error(error: Exception) -> ServingError:
    """`error` if it is one, else what a client gets to know of it."""
    if isinstance(error, ServingError):
        return error
    if isinstance(error, MemoryError):
        return ServingError(Code.RESOURCE_EXHAUSTED, "Out of memory for this request")
    # A defect of ours: the log gets the place.
    traceback.print_exception(error, file=sys.stderr)
    return ServingError(Code.INTERNAL, f"{type(error).__name__}: {error}")


@contextlib.contextmanager
def proper_errors() -> Iterator[None]:
    """Lets nothing out but `ServingError`: a client always gets a proper status."""
    try:
        yield
    except ServingError:
        raise
    except Exception as error:
        raise proper_error(error) from error
