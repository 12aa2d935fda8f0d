"""What goes wrong with a request: a gRPC status, and the HTTP code REST has for it."""

import contextlib
import sys
import traceback
from collections.abc import Iterator, Mapping

import grpc
import tensorflow as tf

Code = grpc.StatusCode

LONGEST_MESSAGE = 1024
"""Characters of a message that reach the client, as in TF Serving."""

_BY_NUMBER = {code.value[0]: code for code in Code}

HTTP: Mapping[Code, int] = {
    Code.OK: 200,
    Code.CANCELLED: 499,
    Code.UNKNOWN: 500,
    Code.INVALID_ARGUMENT: 400,
    Code.DEADLINE_EXCEEDED: 504,
    Code.NOT_FOUND: 404,
    Code.ALREADY_EXISTS: 409,
    Code.PERMISSION_DENIED: 403,
    Code.UNAUTHENTICATED: 401,
    Code.RESOURCE_EXHAUSTED: 429,
    Code.FAILED_PRECONDITION: 400,
    Code.ABORTED: 409,
    Code.OUT_OF_RANGE: 400,
    Code.UNIMPLEMENTED: 501,
    Code.INTERNAL: 500,
    Code.UNAVAILABLE: 503,
    Code.DATA_LOSS: 500,
}
"""gRPC status -> HTTP status, as TF Serving's REST API maps them."""


class ServingError(Exception):
    """A request that cannot be answered, or a model that cannot be loaded."""

    def __init__(self, code: Code, message: str):
        super().__init__(message)
        self.code = code
        self.message = message[:LONGEST_MESSAGE]


def invalid(message: str) -> ServingError:
    return ServingError(Code.INVALID_ARGUMENT, message)


def code_of(number: int) -> Code:
    """The gRPC status of that number; UNKNOWN for numbers that have none."""
    return _BY_NUMBER.get(number, Code.UNKNOWN)


def tensorflow_error(error: Exception) -> ServingError | None:
    """What TensorFlow raised while it ran a model; None if it is not its error."""
    if isinstance(error, tf.errors.OpError):
        return ServingError(code_of(error.error_code), _short(error.message))
    if isinstance(error, UnicodeDecodeError):
        # TensorFlow's message quotes bytes of the request that are no text, and its
        # status is lost on the way here.
        text = bytes(error.object).decode("utf-8", "replace")
        return ServingError(Code.INVALID_ARGUMENT, _short(text))
    return None


@contextlib.contextmanager
def tensorflow_errors() -> Iterator[None]:
    """Turns what TensorFlow raises into a `ServingError`."""
    try:
        yield
    except Exception as error:
        if (proper := tensorflow_error(error)) is None:
            raise
        raise proper from error


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


def _short(message: str) -> str:
    """The message without the Python stack that TensorFlow adds around it."""
    lines = [line for line in message.splitlines() if line.strip()]
    for i, line in enumerate(lines):
        if line.startswith("Graph execution error") or line.startswith("Detected at"):
            continue
        if line.startswith(("Node: ", "  File ", "    ")):
            continue
        if line.startswith("Original stack trace for"):
            break
        return "\n".join(lines[i:]).split("\n\nOriginal stack trace")[0]
    return message
