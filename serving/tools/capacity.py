"""The capacity of a server: the highest rate at which it keeps its limits."""

import dataclasses
from collections.abc import Callable

from serving.command import UserError
from serving.tools.load_outcome import LoadOutcome


@dataclasses.dataclass(frozen=True, kw_only=True)
class LoadLimits:
    """The limits that a server must keep under load.

    Args:
        p99_ms: latency at the 99th percentile; None for any.
        error_share: share of the requests that may fail, in [0, 1].
        answered_share: of the offered requests that must be answered while the load
            lasts, but for three: less, and they pile up. Of capacity alone.
    """

    p99_ms: float | None = None
    error_share: float = 0.0
    answered_share: float = 0.95

    def missed(self, outcome: LoadOutcome) -> list[str]:
        """A line for each limit that `outcome` does not keep."""
        missed = []
        failed = 1 - float(outcome.answered.mean())
        if failed > self.error_share:
            missed.append(
                f"{failed:.4%} of the requests failed, more than {self.error_share:.4%}"
            )
        p99 = outcome.percentiles().get("p99")
        if self.p99_ms is not None and p99 is not None and p99 > self.p99_ms:
            missed.append(f"p99 is {p99:.1f} ms, more than {self.p99_ms:g} ms")
        return missed

    def are_kept(self, outcome: LoadOutcome) -> bool:
        """Whether the server keeps up: no limit is missed and nothing piles up."""
        answered = outcome.throughput()[0] * outcome.load.seconds
        # The three: of few requests, those under way at the end are a large share.
        wanted = self.answered_share * len(outcome.intended) - 3
        return bool(answered >= wanted) and not self.missed(outcome)


def find_capacity(
    measure: Callable[[float], bool], first: float, *, precision: float = 0.05
) -> float:
    """The highest rate for which `measure(rate)` holds.

    Doubles the rate from `first` until it is too much (or halves it until it is not),
    then halves the interval until it is within `precision` of its upper end.

    Raises:
        UserError: even a hundredth of `first` is too much.
    """
    low, high = 0.0, first
    while measure(high):
        low, high = high, 2 * high
    if low == 0:
        rate = first
        while True:
            rate /= 2
            if rate < first / 100:
                raise UserError(
                    f"The server does not keep its limits at {rate * 2:g} requests/s: "
                    "give a lower --rate to begin with, or other limits."
                )
            if measure(rate):
                low = rate
                break
            high = rate
    while high - low > precision * high:
        middle = (low + high) / 2
        if measure(middle):
            low = middle
        else:
            high = middle
    return low
