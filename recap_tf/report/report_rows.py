"""An evaluation's numbers as flat rows; the one module that knows how they nest."""

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence

from recap_tf.evaluation.evaluation_report import Measured, Report, common_prefix
from recap_tf.evaluation.slices import EVERYTHING
from recap_tf.metrics import metric_choice

_NOTHING = Measured(math.nan)


@dataclasses.dataclass(frozen=True)
class ReportRow:
    """The metrics of one task on one slice of a set."""

    set_name: str
    slice_name: str
    task: str
    metrics: Mapping[str, Measured]

    @property
    def of_everything(self) -> bool:
        """Whether it is about the whole set."""
        return self.slice_name == EVERYTHING

    def metric(self, name: str) -> Measured:
        """The metric called `name`; one without a value if it was not measured."""
        return self.metrics.get(name, _NOTHING)


def report_rows(report: Report) -> list[ReportRow]:
    """Lists all of `report`: by set, in it by task, the whole set before slices."""
    return [
        ReportRow(name, part, task, tasks[task])
        for name, parts in report.items()
        for task in parts[EVERYTHING]
        for part, tasks in parts.items()
    ]


def metric_form(name: str) -> str:
    """The format that the values of a metric are written in."""
    # Rates of rare engagements are far below a table's fifth decimal.
    small = name in ("ctr", "pctr")
    return "{:.3g}" if small else metric_choice.find(name, "The report").form


def set_groups(rows: Sequence[ReportRow]) -> dict[str, list[ReportRow]]:
    """Groups rows by title: set by set, but all sets of a single task together."""
    tasks: dict[str, set[str]] = {}
    for row in rows:
        tasks.setdefault(row.set_name, set()).add(row.task)
    single = [name for name, some in tasks.items() if len(some) == 1]
    groups: dict[str, list[ReportRow]] = {}
    for row in rows:
        joined = len(single) > 1 and row.set_name in single
        title = f"{len(single)} sets of one task each" if joined else row.set_name
        groups.setdefault(title, []).append(row)
    return groups


def short_names(tasks: Iterable[str]) -> dict[str, str]:
    """Task -> its name without the dotted prefix that all of them share."""
    tasks = list(tasks)
    prefix = common_prefix(tasks)
    return {task: task.removeprefix(prefix) for task in tasks}


def first_set(rows: Sequence[ReportRow]) -> str | None:
    """The set to look at first: the first of those that report the most tasks."""
    names = [row.set_name for row in rows if row.of_everything]
    return max(dict.fromkeys(names), key=names.count, default=None)
