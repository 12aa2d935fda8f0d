"""Named data sets to evaluate on, and how they are read."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence

import gin

from recap_tf.core.checks import check_range
from recap_tf.data.record_batches import Records
from recap_tf.evaluation.slices import Slice
from recap_tf.metrics import metric_choice


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ValidationSet:
    """A named data set to evaluate on.

    Args:
        name: in tables, TensorBoard and JSON.
        records: the data; weighted by its sampling rates.
        tasks: what is reported; none for all tasks of the ranker.
    """

    name: str
    records: Records
    tasks: Sequence[str] | None = None


@gin.register
def validation_sets(
    records: Callable[..., Records],
    files: str,
    names: Sequence[str] = (),
    sampling_rates: Mapping[str, tuple[float, float]] = {},
) -> list[ValidationSet]:
    """Makes validation sets that differ in files alone: plain ones, and a task's own.

    Args:
        records: makes the `Records` of one set from its files and sampling_rates.
        files: a glob in which {set} stands for the set's name.
        names: plain sets, with all tasks.
        sampling_rates: task -> rates of the set that was sampled for it. That set is
            named after the task's last part and reports this task only.
    """
    if "{set}" not in files:
        raise ValueError(
            f"validation_sets.files must contain {{set}}. Received: {files!r}"
        )
    sets = [
        ValidationSet(name=name, records=records(files=files.replace("{set}", name)))
        for name in names
    ]
    for task, rates in sampling_rates.items():
        name = set_name(task)
        sampled = records(
            files=files.replace("{set}", name), sampling_rates={task: rates}
        )
        sets.append(ValidationSet(name=name, records=sampled, tasks=[task]))
    return sets


def set_name(task: str) -> str:
    """The name of a task's own validation set: its last part, without "is_"."""
    return task.rsplit(".", 1)[-1].removeprefix("is_")


@gin.configurable("evaluate", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class EvaluateSettings:
    """How an evaluation reads its sets, and what it measures.

    Args:
        batch_size: examples per batch, at least 1; of metrics within a batch, the list.
        steps: batches of each set, not 0; negative for the whole set.
        which_metrics: names of the metrics; see `recap_tf.metrics.metric_choice`.
        slices: parts of every set to report on their own.
        group_feature: the feature that tells users or requests apart, an integer or
            bytes, by its name in the records; for metrics of groups (gauc, ndcg@k).
        timeout_seconds: how long an evaluator waits for the next checkpoint, and a
            trainer for its evaluator, before it gives up; above 0.
    """

    batch_size: int = 1024
    steps: int = 16384
    which_metrics: Sequence[str] = metric_choice.DEFAULT
    slices: Sequence[Slice] = ()
    group_feature: str | None = None
    timeout_seconds: float = 3600.0

    def __post_init__(self):
        check_range("recap.evaluate.batch_size", self.batch_size, at_least=1)
        if self.steps == 0:
            raise ValueError(
                "recap.evaluate.steps must be positive, or negative for the whole "
                "set. Received: 0"
            )
        check_range("recap.evaluate.timeout_seconds", self.timeout_seconds, above=0)
        metric_choice.check(self.which_metrics, "recap.evaluate.which_metrics")
        names = [part.name for part in self.slices]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(
                    f"recap.evaluate.slices holds {name!r} more than once."
                )
