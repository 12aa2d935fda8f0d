"""Asks a long run to stop: Ctrl-C and SIGTERM wait for the step that is under way."""

import contextlib
import signal
from collections.abc import Callable, Iterator


class Stop:
    """Whether a signal came. A second one interrupts at once."""

    def __init__(self):
        self.signal: signal.Signals | None = None

    def __bool__(self) -> bool:
        return self.signal is not None


@contextlib.contextmanager
def catch_signals(tell: Callable[[str], None]) -> Iterator[Stop]:
    """Yields a `Stop` that SIGINT and SIGTERM set; their old handlers come back.

    Args:
        tell: prints a line to the user.
    """
    stop = Stop()

    def handle(number, frame):
        if stop:
            raise KeyboardInterrupt
        stop.signal = signal.Signals(number)
        tell(f"{stop.signal.name}: finishing the step, then saving.")

    before = {
        number: signal.signal(number, handle)
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
