"""Counters and histograms, and the page that Prometheus reads them from.

Names, labels and microseconds are TF Serving's. Beyond them: the signature among the
labels of `request_count_by_signature`, requests that are under way, and `batching:`,
what the batch op does by model and signature.
"""

import bisect
import itertools
import threading
from collections.abc import Iterable, Sequence

_PREFIX = ":tensorflow:serving:"
_LATENCY_BUCKETS = tuple(10 * 1.8**i for i in range(33))  # 10 us to 40 minutes
_SIZE_BUCKETS = tuple(2**i for i in range(15))
_BATCH_LABELS = ("model_name", "signature_name")
_API_OF_METHOD = {
    "tensorflow/serving/classify": "Classify",
    "tensorflow/serving/regress": "Regress",
}

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
    """A metric that only counts up."""

    def add(self, *labels: str, amount: int = 1) -> None:
        with self._lock:
            self._values[labels] = self._values.get(labels, 0) + amount

    def total(self) -> int:
        """What has been counted, for all labels together."""
        with self._lock:
            return sum(self._values.values())


class Gauge(Counter):
    """A metric that goes up and down."""

    kind = "gauge"


class Histogram(_Family):
    """A metric that counts values by their size."""

    kind = "histogram"

    def __init__(self, name, labels, help_text, buckets: Sequence[float]):
        super().__init__(name, labels, help_text)
        self._buckets = tuple(buckets)

    def observe(self, value: float, *labels: str) -> None:
        with self._lock:
            counts_and_sum = self._values.get(labels)
            if counts_and_sum is None:
                counts_and_sum = self._values[labels] = [
                    [0] * (len(self._buckets) + 1),
                    0.0,
                ]
            counts_and_sum[0][bisect.bisect_left(self._buckets, value)] += 1
            counts_and_sum[1] += value

    def _lines(self, labels, value):
        counts, total = value
        sums = list(itertools.accumulate(counts))
        bounds = [*(f"{bound:g}" for bound in self._buckets), "+Inf"]
        return [
            *(
                f"{self.name}_bucket{self._shown(labels, le=bound)} {count}"
                for bound, count in zip(bounds, sums, strict=True)
            ),
            f"{self.name}_sum{self._shown(labels)} {total}",
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
            "Microseconds from a request's arrival to its answer, of those answered.",
            _LATENCY_BUCKETS,
        )
        self.requests_in_flight = Gauge(
            "requests_in_flight", ["entrypoint"], "Requests that are being answered."
        )
        self.runtime_latency = Histogram(
            "runtime_latency",
            ["model_name", "API", "runtime"],
            "Microseconds in TensorFlow, of requests by the method of their signature.",
            _LATENCY_BUCKETS,
        )
        self.input_batch_size = Histogram(
            "batching:input_batch_size",
            _BATCH_LABELS,
            "Examples in a batch, without padding.",
            _SIZE_BUCKETS,
        )
        self.processed_batch_size = Histogram(
            "batching:processed_batch_size",
            _BATCH_LABELS,
            "Examples in a batch, with padding.",
            _SIZE_BUCKETS,
        )
        self.queuing_latency = Histogram(
            "batching:queuing_latency",
            _BATCH_LABELS,
            "Microseconds that a request waited for its batch to start.",
            _LATENCY_BUCKETS,
        )
        self.batch_delay = Histogram(
            "batching:batch_delay_us",
            _BATCH_LABELS,
            "Age of a batch when it starts: microseconds since its first request.",
            _LATENCY_BUCKETS,
        )
        self.batching_requests = Gauge(
            "batching:requests_in_flight",
            _BATCH_LABELS,
            "Requests that wait for a batch or are in one that runs.",
        )
        self._add_tf_servings()

    def _add_tf_servings(self) -> None:
        """What TF Serving's dashboards look for beside that."""
        self.request_example_counts = Histogram(
            "request_example_counts",
            ["model"],
            "Examples of a request of Classify, Regress or MultiInference.",
            _SIZE_BUCKETS,
        )
        self.request_example_count_total = Counter(
            "request_example_count_total",
            ["model"],
            "Examples of all requests of Classify, Regress and MultiInference.",
        )
        self.model_warmup_latency = Histogram(
            "model_warmup_latency",
            ["model_path", "status"],
            "Microseconds that the recorded requests of a version took.",
            _LATENCY_BUCKETS,
        )
        self.model_warmup_records_read = Counter(
            "model_warmup_records_read",
            ["model_path"],
            "Recorded requests of a version that were run.",
        )
        self.session_queuing_latency = Histogram(
            "batching_session:queuing_latency",
            ["thread_pool_name"],
            "Microseconds that a request waited for its batch to start.",
            _LATENCY_BUCKETS,
        )
        self.wrapped_run_count = Counter(
            "batching_session:wrapped_run_count", [], "Batches that were run."
        )
        self.padding_size = Histogram(
            "batching_session:padding_size",
            ["execution_batch_size"],
            "Rows of padding in a batch.",
            _SIZE_BUCKETS,
        )
        self.session_input_batch_size = Histogram(
            "batching_session:input_batch_size",
            [],
            "Rows of a request.",
            _SIZE_BUCKETS,
        )
        self.session_processed_batch_size = Histogram(
            "batching_session:processed_batch_size",
            [],
            "Rows of a batch, with padding.",
            _SIZE_BUCKETS,
        )

    def totals(self, names: Iterable[str]) -> dict[str, int]:
        """Name -> what has been counted, of those of `names` that are counters."""
        counters = {c.name: c for c in self._families() if c.kind == "counter"}
        return {name: counters[name].total() for name in names if name in counters}

    def _families(self) -> list[_Family]:
        return [f for f in vars(self).values() if isinstance(f, _Family)]

    def page(self) -> str:
        """The page: all metrics in the text format of Prometheus, version 0.0.4."""
        families = self._families()
        lines = [line for family in families for line in family.page()]
        return "\n".join(lines) + "\n"


class ModelRuns:
    """What one model's runs are counted as.

    Args:
        monitoring: counts them, under the label `model_name`.
    """

    def __init__(self, monitoring: Monitoring, model_name: str):
        self._monitoring = monitoring
        self._model = model_name

    def ran(self, method: str, seconds: float) -> None:
        """Counts a run for a request of a signature of that method."""
        api = _API_OF_METHOD.get(method, "Predict")
        self._monitoring.runtime_latency.observe(seconds * 1e6, self._model, api, "TF1")

    def waits(self, signature: str, amount: int) -> None:
        """Counts `amount` more requests as being with the batch op; negative: fewer."""
        self._monitoring.batching_requests.add(self._model, signature, amount=amount)

    def waited(self, signature: str, seconds: float, rows: int, pool: str) -> None:
        """Counts a request's wait for its batch.

        Args:
            rows: of the request.
            pool: name of the threads that it waited for.
        """
        micros, monitoring = max(0.0, seconds * 1e6), self._monitoring
        monitoring.queuing_latency.observe(micros, self._model, signature)
        monitoring.session_queuing_latency.observe(micros, pool)
        monitoring.session_input_batch_size.observe(rows)

    def batch(self, signature: str, examples: int, padded: int, age: float) -> None:
        """Counts a batch that ran.

        Args:
            examples: rows of requests in it.
            padded: the same with the rows of padding.
            age: seconds since its first request came.
        """
        labels = self._model, signature
        self._monitoring.input_batch_size.observe(examples, *labels)
        self._monitoring.processed_batch_size.observe(padded, *labels)
        self._monitoring.batch_delay.observe(max(0.0, age * 1e6), *labels)
        self._monitoring.wrapped_run_count.add()
        self._monitoring.padding_size.observe(padded - examples, str(padded))
        self._monitoring.session_processed_batch_size.observe(padded)


def _escaped(value: str) -> str:
    return value.replace("\\", r"\\").replace('"', r"\"").replace("\n", r"\n")
