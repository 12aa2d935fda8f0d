"""How the commands beside the server start and end: one line on a user's mistake."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from serving.errors import ServingError


class UserError(ValueError):
    """What the user asked for cannot be done. The message is one clear line."""


def run_command(main: Callable[[Sequence[str] | None], int]) -> int:
    """Runs `main(None)`; returns the process's exit code.

    A mistake of the user's, a server that does not answer and a file that cannot be
    used become one line on stderr and 2. Anything else is a defect and keeps its
    traceback.
    """
    tf.get_logger().setLevel("ERROR")
    try:
        return main(None)
    except KeyboardInterrupt:
        print("\nInterrupted.", file=sys.stderr)
        return 130
    except (UserError, ServingError) as error:
        print(f"error: {error}", file=sys.stderr)
    except (OSError, tf.errors.OpError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        print(f"error: {lines[0]}", file=sys.stderr)
    return 2


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields a path to write to; renamed to `path` at the end, removed on an error."""
    folder = os.path.dirname(path)
    if folder:
        tf.io.gfile.makedirs(folder)
    aside = f"{path}.partial-{os.getpid()}"
    try:
        yield aside
        tf.io.gfile.rename(aside, path, overwrite=True)
    except BaseException:
        if tf.io.gfile.exists(aside):
            tf.io.gfile.remove(aside)
        raise


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path`; a reader sees the old file or the whole new one."""
    with replacing(path) as aside, tf.io.gfile.GFile(aside, "w") as file:
        file.write(text)
