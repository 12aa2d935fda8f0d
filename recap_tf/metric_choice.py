"""The metrics that an evaluation may measure, by name.

A name may end in a number, "ndcg@10" or "precision@0.2": the list's cut or the
threshold that its metric is made with.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

from recap_tf.core.auroc import AUROC
from recap_tf.core.config_names import did_you_mean
from recap_tf.core.counts import ExampleCount, PositiveCount
from recap_tf.core.entropy import NRCE, RCE
from recap_tf.core.means import CTR, PCTR, CalibrationRatio
from recap_tf.core.task_metric import TaskMetric

Better = Literal["larger", "smaller"]

SCORE = "score"
"""What is reported of the score that tasks are combined to, as if it were a task."""

DEFAULT = (
    "examples",
    "positives",
    "ctr",
    "pctr",
    "calibration",
    "auroc",
    "rce",
    "nrce",
)
"""What is measured unless told otherwise."""
DETAILS = ("pctr", "nrce")
"""Those of `DEFAULT` that say little which the others do not."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Choice:
    """One metric that may be chosen.

    Args:
        make: makes it, from the number of tasks and the number in its name, if any.
        form: how a table shows its values.
        better: which of two values is the better one; none where that cannot be said.
        number: type of the number after the "@"; none for a name without one.
        on_score: whether it says something about the score that tasks are combined
            to, and of which truth: the "gain", the weighted sum of the labels, or
            "engaged", whether there was any engagement of positive weight.
    """

    make: Callable[..., TaskMetric]
    form: str
    better: Better | None = None
    number: type | None = None
    on_score: Literal["gain", "engaged"] | None = None


_CHOICES = {
    "examples": Choice(make=ExampleCount, form="{:,.0f}", on_score="engaged"),
    "positives": Choice(make=PositiveCount, form="{:,.0f}", on_score="engaged"),
    "ctr": Choice(make=CTR, form="{:.5f}", on_score="gain"),
    "pctr": Choice(make=PCTR, form="{:.5f}", on_score="gain"),
    "calibration": Choice(make=CalibrationRatio, form="{:.3f}"),
    # float32 holds float32 probabilities exactly, in half the memory.
    "auroc": Choice(
        make=functools.partial(AUROC, dtype="float32"),
        form="{:.4f}",
        better="larger",
        on_score="engaged",
    ),
    "rce": Choice(make=RCE, form="{:.2f}", better="larger"),
    "nrce": Choice(make=NRCE, form="{:.2f}", better="larger"),
}


def find(name: str, setting: str) -> Choice:
    """The metric called `name`, its number filled in.

    Args:
        name: as in a config, "auroc" or "ndcg@10".
        setting: where the user wrote it.

    Raises:
        ValueError: there is none.
    """
    base, at, number = name.partition("@")
    choice = _CHOICES.get(base)
    if choice is None or bool(at) != (choice.number is not None):
        near = did_you_mean(name if choice is None else base, names())
        raise ValueError(
            f"{setting} names the metric {name!r}, which is none of {names()}.{near}"
        )
    if choice.number is None:
        return choice
    try:
        value = choice.number(number)
        return dataclasses.replace(
            choice, make=functools.partial(choice.make, number=value)
        )
    except ValueError as error:
        kind = "whole number" if choice.number is int else "number"
        raise ValueError(
            f"{setting}: the metric {base!r} needs a {kind} after the '@'. "
            f"Received: {name!r}"
        ) from error


def check(chosen: Sequence[str], setting: str) -> None:
    """Raises ValueError unless `chosen` are different names of metrics."""
    if not chosen:
        raise ValueError(f"{setting} must name at least one metric.")
    for name in chosen:
        find(name, setting)
        if list(chosen).count(name) > 1:
            raise ValueError(f"{setting} names {name!r} more than once.")


def names() -> list[str]:
    """All names; "@k" or "@t" stands for the number that belongs to one."""
    marks = {None: "", int: "@k", float: "@t"}
    return [name + marks[choice.number] for name, choice in _CHOICES.items()]


def grouped(chosen: Sequence[str]) -> list[str]:
    """Those of the chosen metrics that need to know users or requests apart."""
    return [name for name in chosen if find(name, "").make(1).needs_groups]
