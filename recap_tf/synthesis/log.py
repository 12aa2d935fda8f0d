"""Made-up logs: times, late engagements, positions, tastes that drift."""

import dataclasses
import datetime
from collections.abc import Mapping, Sequence

import gin
import numpy as np

from recap_tf.core.checks import check_range
from recap_tf.data.record_files import DatedFolders
from recap_tf.data.schema import Schema
from recap_tf.synthesis.columns import Requests

_MS_PER_HOUR = 3_600_000
_IMPRESSED_AFTER_MS = 20_000  # on average
_IMPRESSED_LATE = 0.02  # share of examples without engagement
_LATEST_HOURS = 48.0  # after the window


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class SyntheticLog:
    """When the made-up training examples happened; validation sets come right after.

    Args:
        end: as `DatedFolders.end`.
        length: days or hours, counted back from `end`; a folder each.
        served, impressed: features that get those times, in ms since 1970.
        engaged: task -> the feature that gets the time of its engagement; records
            without engagement lack it.
        window_hours: what comes later after serving is late; above 0.
        late_share: share, 0 to 1, of the examples without an engagement in time that
            get a late one, whatever their features; tasks of `engaged` only.
        position: feature one column of which gets the position in its request, 0 for
            the first. An old ranker of other taste put the training set in order;
            validation sets are in no order.
        position_column: that column, counted from 0.
        examination: position k is looked at with chance (1 + k)^-examination; what is
            not looked at is not engaged with; at least 0.
        drift: degrees, 0 to 90, by which what the labels depend on turned from the
            log's oldest folder to its end.
    """

    end: str
    length: int
    served: str | None = None
    impressed: str | None = None
    engaged: Mapping[str, str] = dataclasses.field(default_factory=dict)
    window_hours: float = 3.0
    late_share: float = 0.05
    position: str | None = None
    position_column: int = 0
    examination: float = 0.7
    drift: float = 0.0

    def __post_init__(self):
        if bool(self.engaged) and None in (self.served, self.impressed):
            raise ValueError(
                "SyntheticLog.engaged needs SyntheticLog.served and impressed. "
                f"Received: {self.served!r}, {self.impressed!r}"
            )
        check_range("SyntheticLog.window_hours", self.window_hours, above=0)
        check_range("SyntheticLog.examination", self.examination, at_least=0)
        check_range("SyntheticLog.late_share", self.late_share, at_least=0, at_most=1)
        check_range("SyntheticLog.drift", self.drift, at_least=0, at_most=90)
        try:
            self.folders()
        except ValueError as error:
            message = str(error).replace("DatedFolders.", "SyntheticLog.")
            raise ValueError(message) from None

    def folders(self) -> DatedFolders:
        """The dated folders, below no root."""
        return DatedFolders(root="", end=self.end, length=self.length)

    def features(self) -> list[str]:
        """The features that hold times."""
        times = [self.served, self.impressed, *self.engaged.values()]
        return list(dict.fromkeys(name for name in times if name is not None))

    def check(self, schema: Schema, labels: Sequence[str]) -> None:
        """Raises ValueError if a task is no label, a time no single int64, or the
        position has no column."""
        for task in self.engaged:
            if task not in labels:
                raise ValueError(
                    f"SyntheticLog.engaged names the task {task!r}, which is not among "
                    f"the labels: {list(labels)}."
                )
        for name in self.features():
            if (schema[name].dtype, schema[name].length) != ("int64_list", 1):
                raise ValueError(
                    f"The time {name!r} must be one int64 in {schema.path}. Received: "
                    f"{schema[name].dtype} of length {schema[name].length}"
                )
        if self.position is None:
            return
        of = schema[self.position]
        if of.dtype != "int64_list" or not 0 <= self.position_column < of.length:
            raise ValueError(
                f"SyntheticLog.position must be column {self.position_column} of an "
                f"int64_list in {schema.path}. Received: {self.position!r}, "
                f"{of.dtype} of length {of.length}"
            )


@dataclasses.dataclass(frozen=True)
class Period:
    """A time to draw examples of.

    Args:
        start, end: ms since 1970.
        age: 0 at the log's end, 1 in its oldest folder.
        in_order: an old ranker decided on the positions.
    """

    start: int
    end: int
    age: float
    in_order: bool


def periods(log: SyntheticLog) -> list[tuple[str, Period]]:
    """(folder, its time), oldest first, and ("", the time right after the last)."""
    folders = log.folders()
    starts = folders.moments(beyond=1)
    ends = [*starts[1:], starts[-1] + (starts[-1] - starts[-2])]
    names = [*(folders.folder(start) for start in starts[:-1]), ""]
    # Of one folder alone nothing is old.
    ages = [*np.linspace(1.0, 0.0, log.length)[:-1], 0.0, 0.0]
    return [
        (name, Period(_ms(start), _ms(end), float(age), in_order=bool(name)))
        for name, start, end, age in zip(names, starts, ends, ages, strict=True)
    ]


def draw_positions(
    log: SyntheticLog,
    rng: np.random.Generator,
    period: Period,
    requests: Requests,
    score: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """(n,) positions by an old ranker's noisy score, and the chance to be looked at."""
    spread = 1.0 / (np.std(score) + 1e-6)
    noisy = rng.standard_normal(len(score)) + period.in_order * spread * score
    request = np.repeat(np.arange(requests.users), requests.sizes)
    order = np.lexsort((-noisy, request))
    first = np.cumsum(requests.sizes) - requests.sizes
    positions = np.empty(len(score), np.int64)
    positions[order] = np.arange(len(score)) - np.repeat(first, requests.sizes)
    return positions, (1.0 + positions) ** -log.examination


def draw_times(
    log: SyntheticLog,
    rng: np.random.Generator,
    period: Period,
    requests: Requests,
    labels: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Times for examples whose labels in time are known.

    Args:
        labels: task -> (n,) whether it was engaged with in time.

    Returns:
        Feature or label -> (n,) values; feature -> (n,) whether a record has it.
        Labels are there for the tasks that may be engaged with late, and count that.
    """
    window = int(log.window_hours * _MS_PER_HOUR)
    values, present = {}, {}
    served = rng.integers(period.start, period.end, requests.users)
    served = requests.spread(served, True)
    wait = rng.exponential(_IMPRESSED_AFTER_MS, len(served)).astype(np.int64)
    wait = np.minimum(wait, window - 1)
    # Seen too late for any engagement in time.
    idle = ~np.any([labels[task] for task in labels], axis=0)
    late = idle & (rng.random(len(served)) < _IMPRESSED_LATE)
    wait += late * (window + rng.integers(0, window, len(served)))
    if log.served is not None:
        values[log.served] = served
    if log.impressed is not None:
        values[log.impressed] = served + wait
    for task, name in log.engaged.items():
        in_time = labels[task]
        later = ~in_time & (rng.random(len(served)) < log.late_share)
        soon = rng.random(len(served)) * (window - wait)
        hours = rng.random(len(served)) * _LATEST_HOURS
        after = np.maximum(window, wait) + (hours * _MS_PER_HOUR).astype(np.int64)
        after = np.where(in_time, wait + soon.astype(np.int64), after)
        values[name] = served + after
        values[task] = present[name] = in_time | later
    return values, present


def _ms(moment: datetime.datetime) -> int:
    return int(moment.replace(tzinfo=datetime.UTC).timestamp() * 1000)
