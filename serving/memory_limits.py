"""Limits on the memory that requests take, so that none of them takes all there is."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Sequence
from typing import Any

from serving.errors import ServingError
from serving.status_codes import Code


class MemoryLimits:
    """How much memory requests may take: each tensor, and all of them together.

    Args:
        tensor_bytes: size of the largest tensor whose request is not refused.
        memory_bytes: a request is refused if it and those that are being answered
            would take more. The message of one that is alone is always admitted; what
            it unpacks to comes on top.
    """

    def __init__(self, *, tensor_bytes: int, memory_bytes: int):
        self.tensor_bytes = tensor_bytes
        self.memory_bytes = memory_bytes
        self._taken = 0
        self._lock = threading.Lock()

    def check_tensor(self, alias: str, shape: Sequence[int], amount: int) -> None:
        """Raises RESOURCE_EXHAUSTED if the tensor `alias` takes too many bytes."""
        if amount > self.tensor_bytes:
            sizes = ",".join(map(str, shape))
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"input {alias} declares the shape [{sizes}], more than the "
                f"{self.tensor_bytes} bytes that a tensor may take",
            )

    async def run(
        self,
        pool: concurrent.futures.Executor,
        amount: int,
        call: Callable[..., Any],
        *arguments: Any,
    ) -> Any:
        """What `call(*arguments)` returns or raises in `pool`, holding `amount` bytes.

        They are held while it waits for a thread, and until it ends even if nobody
        waits for it any more; raises RESOURCE_EXHAUSTED if there are not as many.
        """
        loop = asyncio.get_running_loop()
        answered = loop.create_future()

        def work() -> None:
            result = error = None
            try:
                result = call(*arguments)
            except BaseException as raised:
                error = raised
            self._give(amount)
            # The loop may have ended: nobody waits then.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, answered, result, error)

        self._take(amount)
        try:
            submitted = pool.submit(work)
        except RuntimeError:
            self._give(amount)
            raise
        try:
            return await answered
        except asyncio.CancelledError:
            if submitted.cancel():
                self._give(amount)
            raise

    def memory(self, amount: int) -> "_Held":
        """Holds `amount` bytes; raises RESOURCE_EXHAUSTED if there are not as many."""
        return _Held(self, amount)

    def _take(self, amount: int) -> None:
        with self._lock:
            if self._taken and self._taken + amount > self.memory_bytes:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The requests that are being answered take {self._taken} of "
                    f"{self.memory_bytes} bytes; this one takes {amount}",
                )
            self._taken += amount

    def _give(self, amount: int) -> None:
        with self._lock:
            self._taken -= amount


class _Held:
    def __init__(self, limits: MemoryLimits, amount: int):
        self._limits, self._amount = limits, amount

    def __enter__(self) -> None:
        self._limits._take(self._amount)

    def __exit__(self, *_) -> None:
        self._limits._give(self._amount)


def _settle(future: asyncio.Future, result: Any, error: BaseException | None) -> None:
    if future.done():
        return  # Nobody waits for it any more.
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
