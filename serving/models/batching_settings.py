"""Settings of batching, which puts requests together: TF Serving's, checked.

Imports no TensorFlow: `serving.deploy` checks its flags by these settings.
"""

import dataclasses
import itertools

from google.protobuf import message

from serving.errors import invalid


@dataclasses.dataclass(frozen=True, kw_only=True)
class Batching:
    """How requests are put together; names and defaults of TF Serving.

    Args:
        max_batch_size: examples in one run of the model.
        batch_timeout_micros: how long the first request of a batch waits for others.
        max_enqueued_batches: full batches that may wait; more are refused.
        num_batch_threads: batches that run at once.
        allowed_batch_sizes: batches are padded up to one of these, ascending; the
            last is max_batch_size. None: no padding.
        pad_variable_length_inputs: requests whose tensors differ in other dimensions
            than the first are padded to a common size.
        enable_large_batch_splitting: requests larger than max_batch_size are split.
    """

    max_batch_size: int = 1000
    batch_timeout_micros: int = 0
    max_enqueued_batches: int = 10
    num_batch_threads: int = 2
    allowed_batch_sizes: tuple[int, ...] = ()
    pad_variable_length_inputs: bool = False
    enable_large_batch_splitting: bool = False

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
