"""How the commands beside the server start and end: one line on a user's mistake.

Imports no TensorFlow: the processes of a load test import this module, and start at
once without it.
"""

import sys
from collections.abc import Callable, Sequence

from serving.memory import keep_freed_memory


class UserError(ValueError):
    """What the user asked for cannot be done. The message is one clear line."""


def run_command(main: Callable[[Sequence[str] | None], int]) -> int:
    """Runs `main(None)`; returns the process's exit code.

    A mistake of the user's, a server that does not answer and a file that cannot be
    used become one line on stderr and 2. Anything else is a defect and keeps its
    traceback. Memory that was freed is used again: requests may be large.
    """
    keep_freed_memory()
    import tensorflow as tf

    from serving.errors import ServingError

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
