"""Draws made-up examples: a request's features, and labels by the hidden model."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from recap_tf.labels import SamplingRates
from recap_tf.schema import Schema
from recap_tf.synthesis.columns import Column, Requests, Values
from recap_tf.synthesis.hidden_model import HiddenModel, sigmoid

_VALUES_AT_ONCE = 1 << 21  # few enough to stay in the caches between two operations


@dataclasses.dataclass(frozen=True)
class Batch:
    """Some requests' examples.

    Args:
        features: name in the records -> values, one row per example; labels too.
        present: feature -> (n,) whether a record has it; not listed: all do.
        logits, labels: (n, labels), true log-odds and what was drawn from them.
    """

    features: Mapping[str, Values]
    present: Mapping[str, np.ndarray]
    logits: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True, kw_only=True)
class ExampleSource:
    """Draws examples; several threads may do so at once.

    Args:
        order: the features in a record, labels included.
        labels: the model's tasks.
        columns: how the other features are drawn.
        model: what the labels depend on.
        candidates: fewest and most examples of one request.
    """

    order: Sequence[str]
    labels: Sequence[str]
    columns: Mapping[str, Column]
    model: HiddenModel
    candidates: tuple[int, int]

    def draw(
        self, rng: np.random.Generator, examples: int, rates: SamplingRates
    ) -> Iterator[Batch]:
        """Draws `examples` in all, request after request; cuts the last one short.

        Labels are drawn as if natural traffic had been sampled for each task at its
        rates (share of positives kept, share of negatives kept). Keeping an example
        with a chance that depends on its label alone multiplies the odds of a
        positive:

            logit(p_set) = logit(p_natural) + log(positives kept / negatives kept)

        and labels are drawn from p_set directly. Nothing is rejected, and the features
        keep their natural distribution, which for several tasks at once no real
        sampling could do. `labels.calibrate` of p_set with r = negatives kept /
        positives kept is p_natural exactly.
        """
        pairs = [rates.get(label, (1.0, 1.0)) for label in self.labels]
        shift = np.log([positive / negative for positive, negative in pairs])
        for requests in self._requests(rng, examples):
            drawn = {
                n: column.draw(rng, requests) for n, column in self.columns.items()
            }
            values = {name: value for name, (value, _) in drawn.items()}
            logits = self.model.logits(self.columns, values) + shift
            labels = rng.random(logits.shape) < sigmoid(logits)
            values |= zip(self.labels, labels.T, strict=True)
            yield Batch(
                features={name: values[name] for name in self.order},
                present={n: mask for n, (_, mask) in drawn.items() if mask is not None},
                logits=logits,
                labels=labels,
            )

    def _requests(self, rng, examples: int) -> Iterator[Requests]:
        fewest, most = self.candidates
        sizes = rng.integers(fewest, most + 1, -(-examples // fewest))
        ends = np.minimum(np.cumsum(sizes), examples)
        sizes = np.diff(ends, prepend=0)
        sizes = sizes[sizes > 0]
        width = len(self.labels) + sum(column.width for column in self.columns.values())
        at_once = max(1, min(_VALUES_AT_ONCE // width, 4096) * 2 // (fewest + most))
        for start in range(0, len(sizes), at_once):
            yield Requests(sizes[start : start + at_once])


def label_names(schema: Schema, tasks: Sequence[str]) -> list[str]:
    """The labels among the features of `schema`, in its order.

    These are the tasks and, where all tasks share a dotted prefix, the other single
    int64 features with the same one.

    Raises:
        ValueError: a task is not in the schema, or not a single int64.
    """
    for task in tasks:
        if (schema[task].dtype, schema[task].length) != ("int64_list", 1):
            raise ValueError(
                f"The label {task!r} must be one int64 in {schema.path}. Received: "
                f"{schema[task].dtype} of length {schema[task].length}"
            )
    prefixes = {task.rpartition(".")[0] for task in tasks}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""

    def is_label(name: str) -> bool:
        kind = schema[name].dtype, schema[name].length
        sibling = prefix and name.rpartition(".")[0] == prefix
        return name in tasks or (sibling and kind == ("int64_list", 1))

    return [name for name in schema if is_label(name)]
