"""Settings of batching, which puts requests together: TF Serving's, checked.

Imports no TensorFlow: `serving.deploy` checks its flags by these settings.
"""

import dataclasses
import itertools
import os

from google.protobuf import message

from serving.errors import invalid

PARAMETERS_FILE = "batching_params.pbtxt"
"""The file in a version's folder that has settings for that version alone."""


def _cpus() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests are put together; names and defaults of TF Serving.

    Args:
        max_batch_size: examples of the largest request that is answered, and in one
            run of the model.
        batch_timeout_micros: how long the first request of a batch waits for others.
        max_enqueued_batches: full batches that may wait; more are refused.
        num_batch_threads: batches that run at once, for each shape of each signature;
            in TF Serving it is for all together. By default as many as there are cores.
        allowed_batch_sizes: batches are padded up to one of these, ascending; the
            last is max_batch_size. None: no padding.
        pad_variable_length_inputs: requests whose tensors differ in other dimensions
            than the first are padded to a common size.
        enable_large_batch_splitting: requests larger than `execution_size` are split.
        max_execution_batch_size: with splitting, the examples in one run of the model;
            0: max_batch_size, so that nothing is split.
        thread_pool_name: a label of the metrics; nothing else.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = dataclasses.field(default_factory=_cpus)
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False
    max_execution_batch_size: int = 0
    thread_pool_name: str = "batch_threads"

    def __post_init__(self):
        for name in ("max_batch_size", "max_enqueued_batches", "num_batch_threads"):
            if getattr(self, name) < 1:
                raise invalid(f"{name} must be positive; was {getattr(self, name)}")
        if self.batch_timeout_micros < 0:
            raise invalid(
                "batch_timeout_micros must be non-negative; was "
                f"{self.batch_timeout_micros}"
            )
        sizes = self.allowed_batch_sizes
        if sizes and sizes[-1] != self.max_batch_size:
            raise invalid(
                "Last entry in allowed_batch_sizes must match max_batch_size; last "
                f"entry was {sizes[-1]}; expected {self.max_batch_size}"
            )
        if any(low >= high for low, high in itertools.pairwise((0, *sizes))):
            raise invalid(
                "allowed_batch_sizes entries must be positive and ascending; were "
                f"{list(sizes)}"
            )
        if not 0 <= self.max_execution_batch_size <= self.max_batch_size:
            raise invalid(
                "max_execution_batch_size must be positive and at most max_batch_size, "
                f"{self.max_batch_size}; was {self.max_execution_batch_size}"
            )

    @property
    def execution_size(self) -> int:
        """Examples in one run of the model, at most."""
        if not self.enable_large_batch_splitting:
            return self.max_batch_size
        return self.max_execution_batch_size or self.max_batch_size


def from_parameters(parameters: message.Message) -> Batching:
    """The settings of a BatchingParameters message; see `text_configs`."""
    given = {}
    for field in dataclasses.fields(Batching):
        value = getattr(parameters, field.name)
        if field.name == "allowed_batch_sizes":
            given[field.name] = tuple(value)
        elif isinstance(value, bool):
            given[field.name] = value
        elif parameters.HasField(field.name):
            given[field.name] = value.value
    return Batching(**given)
