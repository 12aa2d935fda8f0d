"""Counters and histograms, and the page that Prometheus reads them from.

Names, labels and microseconds are TF Serving's. Beyond them: the signature among the
labels of `request_count_by_signature`, and requests that are under way.
"""

import bisect
import itertools
import threading
from collections.abc import Sequence

_PREFIX = ":tensorflow:serving:"
_LATENCY_BUCKETS = tuple(10 * 1.8**i for i in range(33))  # 10 us to 40 minutes

Labels = tuple[str, ...]


class _Family:
    """One metric for all values of its labels."""

    kind = "counter"

    def __init__(self, name: str, labels: Sequence[str], help_text: str):
        self.name = name if name.startswith(":") else _PREFIX + name
        self._labels, self._help = tuple(labels), help_text
        self._lock = threading.Lock()
        self._values: dict[Labels, object] = {}

    def page(self) -> list[str]:
        with self._lock:
            lines = [
                line
                for labels, value in sorted(self._values.items())
                for line in self._lines(labels, value)
            ]
        if not lines:
            return []
        head = f"# HELP {self.name} {self._help}", f"# TYPE {self.name} {self.kind}"
        return [*head, *lines]

    def _lines(self, labels: Labels, value) -> list[str]:
        return [f"{self.name}{self._shown(labels)} {value}"]

    def _shown(self, labels: Labels, **more: str) -> str:
        named = dict(zip(self._labels, labels, strict=True)) | more
        shown = ",".join(f'{name}="{_escaped(v)}"' for name, v in named.items())
        return f"{{{shown}}}" if shown else ""


class Counter(_Family):
    """Counts up."""

    def add(self, *labels: str, amount: int = 1) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount


class Gauge(Counter):
    """Goes up and down."""

    kind = "gauge"


class Histogram(_Family):
    """Counts values by size."""

    kind = "histogram"

    def __init__(self, name, labels, help_text, buckets: Sequence[float]):
        super().__init__(name, labels, help_text)
        self._buckets = tuple(buckets)

    def observe(self, value: float, *labels: str) -> None:
        with self._lock:
            found = self._values.get(labels)
            if found is None:
                found = self._values[labels] = [[0] * (len(self._buckets) + 1), 0.0]
            found[0][bisect.bisect_left(self._buckets, value)] += 1
            found[1] += value

    def _lines(self, labels, value):
        counts, total = value
        sums = list(itertools.accumulate(counts))
        bounds = [*(f"{bound:g}" for bound in self._buckets), "+Inf"]
        return [
            *(
                f"{self.name}_bucket{self._shown(labels, le=bound)} {count}"
                for bound, count in zip(bounds, sums, strict=True)
            ),
            f"{self.name}_sum{self._shown(labels)} {total:g}",
            f"{self.name}_count{self._shown(labels)} {sums[-1]}",
        ]


class Monitoring:
    """Everything that one server counts."""

    def __init__(self):
        self.request_count = Counter(
            "request_count", ["model_name", "status"], "Requests, by gRPC status."
        )
        self.request_count_by_signature = Counter(
            "request_count_by_signature",
            ["model_name", "signature_name", "API", "entrypoint", "status"],
            "Requests, by signature, call, transport and gRPC status.",
        )
        self.request_latency = Histogram(
            "request_latency",
            ["model_name", "API", "entrypoint"],
            "Microseconds from a request's arrival to its answer.",
            _LATENCY_BUCKETS,
        )
        self.requests_in_flight = Gauge(
            "requests_in_flight", ["entrypoint"], "Requests that are being answered."
        )

    def page(self) -> str:
        """All of it in the text format of Prometheus, version 0.0.4."""
        families = [one for one in vars(self).values() if isinstance(one, _Family)]
        lines = [line for family in families for line in family.page()]
        return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
