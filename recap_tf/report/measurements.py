"""What an evaluation measured, as rows; the one module that knows how it is nested."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from recap_tf.evaluation import METRICS, Report


@dataclasses.dataclass(frozen=True)
class Measured:
    """A metric's value and its standard error; NaN where there is none."""

    value: float
    error: float = math.nan


@dataclasses.dataclass(frozen=True)
class MeasuredTask:
    """The metrics of one task on one slice of a set; the whole set has no slice."""

    set_name: str
    slice_name: str
    task: str
    metrics: Mapping[str, Measured]

    def metric(self, name: str) -> Measured:
        return self.metrics.get(name, Measured(math.nan))


def measured_tasks(report: Report) -> list[MeasuredTask]:
    """All of `report`, set by set."""
    return [
        MeasuredTask(
            name, "", task, {key: Measured(value) for key, value in values.items()}
        )
        for name, tasks in report.items()
        for task, values in tasks.items()
    ]


def metric_form(name: str) -> str:
    """How the values of a metric are written."""
    return METRICS[name][1]


def short_names(tasks: Iterable[str]) -> dict[str, str]:
    """Task -> its name without the dotted prefix that all of them share."""
    tasks = list(tasks)
    prefixes = {task[: task.rfind(".") + 1] for task in tasks}
    prefix = prefixes.pop() if len(prefixes) == 1 else ""
    return {task: task.removeprefix(prefix) for task in tasks}


def primary_set(measured: Sequence[MeasuredTask]) -> str | None:
    """The set to look at first: the first of those that report the most tasks."""
    names = [one.set_name for one in measured if not one.slice_name]
    return max(dict.fromkeys(names), key=names.count, default=None)
