"""What became of a load test's requests: latency, throughput, errors, lateness."""

import dataclasses
from collections.abc import Sequence

import numpy as np

from serving.tools.offered_load import OfferedLoad

PERCENTILES = (50, 90, 95, 99, 99.9)

# Later than this at the 99th percentile, and a tenth of the latency there: the client.
_LATE_SECONDS = 0.001


@dataclasses.dataclass(frozen=True)
class LoadOutcome:
    """What became of the requests of a load test, warm-up left out.

    Args:
        load: what was offered.
        intended: seconds from the start of what counts; one element per request, as
            in the arrays that follow.
        latency: seconds from then to the answer; NaN for those not sent.
        lag: seconds that the client sent them late.
        rows: examples in each request.
        codes: names of gRPC's codes, or NOT_SENT.
        cpu_shares: the share of a core that each process took.
        warmup_codes: codes of the requests of the warm-up.
        carried_over: rows of those of them that were answered after the start.
    """

    load: OfferedLoad
    intended: np.ndarray
    latency: np.ndarray
    lag: np.ndarray
    rows: np.ndarray
    codes: np.ndarray
    cpu_shares: Sequence[float]
    warmup_codes: np.ndarray
    carried_over: np.ndarray

    @property
    def answered(self) -> np.ndarray:
        """Which requests came back with a score."""
        return self.codes == "OK"

    def errors(self) -> dict[str, int]:
        """The requests that failed, code -> how many."""
        codes, counts = np.unique(self.codes[~self.answered], return_counts=True)
        return dict(zip(codes.tolist(), counts.tolist(), strict=True))

    def throughput(self) -> tuple[float, float]:
        """Requests and examples per second that were answered while others were sent.

        Those that were sent in the warm-up and answered within the time count, those
        that were answered after it do not.
        """
        end = self.load.seconds
        within = self.answered & (self.intended + self.latency < end)
        rows = np.concatenate([self.rows[within], self.carried_over])
        return len(rows) / end, float(rows.sum()) / end

    def percentiles(self, rows: int | None = None) -> dict[str, float]:
        """Latency in ms of the answered requests, of that size or of all.

        Keys p50 ... p99.9, mean and max; empty if there are none.
        """
        chosen = self.answered
        if rows is not None:
            chosen = chosen & (self.rows == rows)
        latency = self.latency[chosen] * 1e3
        if not len(latency):
            return {}
        values = np.percentile(latency, PERCENTILES).tolist()
        latencies = {f"p{p:g}": v for p, v in zip(PERCENTILES, values, strict=True)}
        return latencies | {"mean": float(latency.mean()), "max": float(latency.max())}

    def lag_ms(self) -> float:
        """The client's lag at the 99th percentile, in ms."""
        return float(np.percentile(self.lag, 99)) * 1e3 if len(self.lag) else 0.0

    def client_was_the_bottleneck(self) -> bool:
        """Whether these are figures of the client rather than of the server."""
        if "NOT_SENT" in self.errors() or max(self.cpu_shares) > 0.9:
            return True
        late = max(_LATE_SECONDS * 1e3, 0.1 * self.percentiles().get("p99", 0.0))
        return self.load.rate is not None and self.lag_ms() > late
