"""Draws made-up examples: a request's features, and labels by the hidden model."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from recap_tf.data.sampling import SamplingRates
from recap_tf.data.schema import Schema
from recap_tf.synthesis.columns import Column, ColumnValues, Requests
from recap_tf.synthesis.hidden_model import HiddenModel, sigmoid
from recap_tf.synthesis.log import Period, SyntheticLog, draw_positions, draw_times

_VALUES_AT_ONCE = 1 << 21  # few enough to stay in the caches between two operations


@dataclasses.dataclass(frozen=True)
class DrawnExamples:
    """The examples of some requests.

    Args:
        features: name in the records -> values, one row per example; labels too.
        present: feature -> (n,) whether a record has it; not listed: all do.
        logits, labels: (n, labels), true log-odds and what was drawn from them; of a
            log, engagements in time.
    """

    features: Mapping[str, ColumnValues]
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
        log: when the examples happen, if that is to be recorded.
        before: what the labels depended on before, if that drifts.
        old_ranker: what a log's positions depend on, if there are any.
    """

    order: Sequence[str]
    labels: Sequence[str]
    columns: Mapping[str, Column]
    model: HiddenModel
    candidates: tuple[int, int]
    log: SyntheticLog | None = None
    before: HiddenModel | None = None
    old_ranker: HiddenModel | None = None

    def draw(
        self,
        rng: np.random.Generator,
        examples: int,
        rates: SamplingRates,
        period: Period | None = None,
    ) -> Iterator[DrawnExamples]:
        """Draws `examples` in all, request after request; cuts the last one short.

        With a log they happen within `period`.

        Labels are drawn as if natural traffic had been sampled for each task at its
        rates (share of positives kept, share of negatives kept). Keeping an example
        with a chance that depends on its label alone multiplies the odds of a
        positive:

            logit(p_set) = logit(p_natural) + log(positives kept / negatives kept)

        and labels are drawn from p_set directly. Nothing is rejected, and the features
        keep their natural distribution, which for several tasks at once no real
        sampling could do. `sampling.undo_sampling` of p_set with r = negatives kept /
        positives kept is p_natural exactly.
        """
        pairs = [rates.get(label, (1.0, 1.0)) for label in self.labels]
        shift = np.log([positive / negative for positive, negative in pairs])
        model = self._model_at(period)
        for requests in self._requests(rng, examples):
            drawn = {
                n: column.draw(rng, requests) for n, column in self.columns.items()
            }
            values = {name: value for name, (value, _) in drawn.items()}
            logits = model.logits(self.columns, values) + shift
            chances = sigmoid(logits)
            if period is not None and self.old_ranker is not None:
                chances = self._looked_at(rng, period, requests, values, logits, shift)
            labels = rng.random(logits.shape) < chances
            values |= zip(self.labels, labels.T, strict=True)
            present = {n: mask for n, (_, mask) in drawn.items() if mask is not None}
            if period is not None:
                in_time = dict(zip(self.labels, labels.T, strict=True))
                times, engaged = draw_times(self.log, rng, period, requests, in_time)
                values |= times
                present |= engaged
            yield DrawnExamples(
                features={name: values[name] for name in self.order},
                present=present,
                logits=logits,
                labels=labels,
            )

    def _model_at(self, period: Period | None) -> HiddenModel:
        if period is None or self.before is None:
            return self.model
        return self.model.turned(self.before, self.log.drift * period.age)

    def _looked_at(self, rng, period, requests, values, logits, shift) -> np.ndarray:
        """Gives `values` positions; returns the labels' chances with them."""
        score = self.old_ranker.logits(self.columns, values).mean(axis=1)
        positions, looked = draw_positions(self.log, rng, period, requests, score)
        values[self.log.position][:, self.log.position_column] = positions
        natural = sigmoid(logits - shift) * looked[:, np.newaxis]
        odds = natural / (1.0 - natural) * np.exp(shift)
        return odds / (1.0 + odds)

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
