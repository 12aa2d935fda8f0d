"""Errors that TensorFlow raises, turned into what a client gets to know of them."""

import contextlib
import re
from collections.abc import Iterator

import tensorflow as tf

from serving.errors import ServingError
from serving.status_codes import Code, code_of


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


# The node that puts requests together is no part of anybody's model.
_OF_BATCHING = re.compile(r"\n\t \[\[\{\{node BatchFunction(_\d+)?\}\}\]\]$")


def _short(message: str) -> str:
    """The message without what TensorFlow adds around it: nodes, Python's stack."""
    message = _OF_BATCHING.sub("", message)
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
