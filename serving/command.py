"""How commands start and end: one line on stderr for a user's mistake, no traceback.

Imports no TensorFlow, which takes seconds: no command needs it for --help or to refuse
an argument, and the processes of a load test do without.
"""

import logging
import sys
from collections.abc import Callable, Sequence

from serving.errors import ServingError
from serving.freed_memory import keep_freed_memory


class UserError(ValueError):
    """What the user asked for cannot be done. The message is one clear line."""


def say(text: str) -> None:
    """Prints a line for the user on stderr, at once."""
    print(text, file=sys.stderr, flush=True)


def quiet_tensorflow() -> None:
    """Keeps TensorFlow's Python code from warning of what it raises too."""
    logging.getLogger("tensorflow").setLevel(logging.ERROR)


def run_command(main: Callable[[Sequence[str] | None], int]) -> int:
    """Runs `main(None)`; returns the process's exit code.

    A mistake of the user's, a server that does not answer and a file that cannot be
    used become one line on stderr and 2. Anything else is a defect and keeps its
    traceback. Memory that was freed is used again: requests may be large.
    """
    keep_freed_memory()
    quiet_tensorflow()
    try:
        return main(None)
    except KeyboardInterrupt:
        say("\nInterrupted.")
        return 130
    except (UserError, ServingError) as error:
        say(f"error: {error}")
    except Exception as error:
        if not isinstance(error, OSError) and not _is_of_tensorflow(error):
            raise
        lines = str(error).strip().splitlines() or [type(error).__name__]
        say(f"error: {lines[0]}")
    return 2


def _is_of_tensorflow(error: Exception) -> bool:
    """Whether it is a `tf.errors.OpError`, without importing TensorFlow to ask."""
    tensorflow = sys.modules.get("tensorflow")
    return tensorflow is not None and isinstance(error, tensorflow.errors.OpError)
