"""The load that is offered to a server: how many requests, of which sizes, when.

Imports no TensorFlow: `serving.loadtest` checks its flags here.
"""

import dataclasses

from serving.command import UserError


@dataclasses.dataclass(frozen=True, kw_only=True)
class ProcessShare:
    """The share of a load that one process sends.

    Args:
        rate: requests per second, at Poisson times; None for a closed loop.
        callers: of the closed loop: each sends when the one before is answered.
        seconds: how long requests are sent.
        timeout_seconds: deadline of a request, counted from its intended time.
        channels: connections to the server; at least 1.
        seed: of the times and of the choice of requests.
    """

    rate: float | None
    callers: int
    seconds: float
    timeout_seconds: float
    channels: int
    seed: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class OfferedLoad:
    """The load that is offered: how much is sent, and for how long.

    Args:
        rate: requests per second; None for a closed loop.
        callers: of the closed loop, all processes together; 0 for none.
        seconds: time that counts.
        warmup_seconds: time before that, at the same rate.
        timeout_seconds: deadline of a request, counted from its intended time.
        processes: how many send.
        channels: connections of each process.
        seed: of the times and of the choice of requests.
    """

    rate: float | None = None
    callers: int = 0
    seconds: float = 30.0
    warmup_seconds: float = 5.0
    timeout_seconds: float = 10.0
    processes: int = 2
    channels: int = 1
    seed: int = 0

    def __post_init__(self):
        if (self.rate is None) == (self.callers == 0):
            raise UserError(
                f"--rate and --callers: give one. Received: {self.rate} and "
                f"{self.callers}"
            )
        if self.rate is None and self.callers < self.processes:
            raise UserError(
                f"--callers must be at least --processes, {self.processes}. Received: "
                f"{self.callers}"
            )
        for name in ("rate", "seconds", "timeout_seconds", "processes", "channels"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                flag = name.replace("_", "-")
                raise UserError(f"--{flag} must be positive. Received: {value}")
        if self.warmup_seconds < 0:
            raise UserError(
                "--warmup-seconds must not be negative. Received: "
                f"{self.warmup_seconds}"
            )

    def shares(self) -> list[ProcessShare]:
        """The share of each process; Poisson times of all of them are Poisson again."""
        whole, rest = divmod(self.callers, self.processes)
        return [
            ProcessShare(
                rate=None if self.rate is None else self.rate / self.processes,
                callers=whole + (i < rest),
                seconds=self.warmup_seconds + self.seconds,
                timeout_seconds=self.timeout_seconds,
                channels=self.channels,
                seed=1000 * self.seed + i,
            )
            for i in range(self.processes)
        ]


def parse_sizes(text: str) -> dict[int, float]:
    """The sizes of requests, rows -> weight, of text such as "1,200:2,1500:0.5".

    Raises:
        UserError: it is something else.
    """
    weights = {}
    for part in text.split(","):
        size, colon, weight = part.partition(":")
        try:
            number, share = int(size), float(weight) if colon else 1.0
        except ValueError:
            number = share = 0
        if number < 1 or not 0 < share < float("inf") or number in weights:
            raise UserError(
                "--sizes must be ROWS or ROWS:WEIGHT, both positive, each size once, "
                f"with commas between. Received: {text!r}"
            )
        weights[number] = share
    return weights
