"""Bounds on what requests may take, so that none of them takes all there is."""

import asyncio
import concurrent.futures
import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

from serving.errors import Code, ServingError


class Limits:
    """How much memory requests may take: each tensor, and all of them together.

    Args:
        tensor_bytes: a request with a tensor that takes more is refused.
        memory_bytes: a request is refused if it and those that are being answered
            would take more. The message of one that is alone is always admitted; what
            it unpacks to comes on top.
    """

    def __init__(self, *, tensor_bytes: int, memory_bytes: int):
        self.tensor_bytes = tensor_bytes
        self.memory_bytes = memory_bytes
        self._taken = 0
        self._lock = threading.Lock()

    def check_tensor(self, alias: str, shape: str, amount: int) -> None:
        """Raises RESOURCE_EXHAUSTED if the tensor `alias` takes too many bytes."""
        if amount > self.tensor_bytes:
            raise ServingError(
                Code.RESOURCE_EXHAUSTED,
                f"input {alias} declares the shape {shape}, more than the "
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
        with contextlib.ExitStack() as stack:
            stack.enter_context(self.memory(amount))
            future = pool.submit(call, *arguments)
            held = stack.pop_all()
        future.add_done_callback(lambda _: held.close())
        return await asyncio.wrap_future(future)

    @contextlib.contextmanager
    def memory(self, amount: int) -> Iterator[None]:
        """Holds `amount` bytes; raises RESOURCE_EXHAUSTED if there are not as many."""
        with self._lock:
            if self._taken and self._taken + amount > self.memory_bytes:
                raise ServingError(
                    Code.RESOURCE_EXHAUSTED,
                    f"The requests that are being answered take {self._taken} of "
                    f"{self.memory_bytes} bytes; this one takes {amount}",
                )
            self._taken += amount
        try:
            yield
        finally:
            with self._lock:
                self._taken -= amount
