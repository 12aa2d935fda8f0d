"""An asyncio event loop in a thread of its own."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import uvloop

_QUIET_SECONDS = 0.1
_LONGEST_LAME_SECONDS = 1.0


async def until_quiet(arrived: Callable[[], int], seconds: float) -> None:
    """Returns when no more calls arrive, or after a second.

    Calls may have reached the process and not yet its loop: they count as those that
    had arrived. Under a steady load there is no telling them from new ones.

    Args:
        arrived: how many calls there have been by now.
        seconds: longest time to wait, if less than a second.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + min(seconds, _LONGEST_LAME_SECONDS)
    seen = -1
    while seen != arrived() and loop.time() < end:
        seen = arrived()
        await asyncio.sleep(_QUIET_SECONDS)


class EventLoop:
    """Runs coroutines for callers that are not asynchronous themselves.

    Args:
        name: what debuggers call the loop's thread.
    """

    def __init__(self, name: str):
        # Every message passes through it several times: asyncio's own took 0.3 ms more
        # of a request.
        self.loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Waits for the coroutine; what it returns or raises."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join()
        self.loop.close()

    def _run(self) -> None:
        asyncio.set_event_loop(self.loop)
        self.loop.run_forever()
