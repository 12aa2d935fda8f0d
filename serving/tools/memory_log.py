"""A log of the memory that a process takes, over time."""

import threading
import time

import numpy as np

from serving.command import UserError

_KIB = 1024
_LOW = 10


class MemoryLog:
    """Notes a process's resident memory every so often, within a `with` block.

    Args:
        pid: a process of this machine.
        every_seconds: time between two looks.

    Raises:
        UserError: there is no such process.
    """

    def __init__(self, pid: int, every_seconds: float = 1.0):
        self.pid = pid
        self.every_seconds = every_seconds
        self.seconds: list[float] = []
        self.megabytes: list[float] = []
        self._ended = threading.Event()
        if resident_bytes(pid) is None:
            raise UserError(f"--server-pid {pid} is not a process of this machine.")

    def __enter__(self) -> "MemoryLog":
        self._started = time.monotonic()
        self._thread = threading.Thread(target=self._run, name="memory", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_) -> None:
        self._ended.set()
        self._thread.join()

    def growth(self) -> float:
        """Megabytes more at the end than at first.

        The tenth percentile of the last quarter of the time against the second's. Low
        ones are what is held when few requests are under way: what leaks is added to
        them, while the middle moves with how many requests came at once. The first
        quarter is for buffers that are filled once.
        """
        quarter = len(self.megabytes) // 4
        if not quarter:
            return 0.0
        early = np.percentile(self.megabytes[quarter : 2 * quarter], _LOW)
        return float(np.percentile(self.megabytes[-quarter:], _LOW) - early)

    def _run(self) -> None:
        while True:
            resident = resident_bytes(self.pid)
            if resident is None:
                return
            self.seconds.append(time.monotonic() - self._started)
            self.megabytes.append(resident / 2**20)
            if self._ended.wait(self.every_seconds):
                return


def resident_bytes(pid: int) -> int | None:
    """Resident memory of a process; None if it is not there."""
    try:
        with open(f"/proc/{pid}/status") as file:
            for line in file:
                if line.startswith("VmRSS:"):
                    return int(line.split()[1]) * _KIB
    except (FileNotFoundError, ProcessLookupError):
        pass
    return None
