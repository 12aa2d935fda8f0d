"""The metrics that an evaluation may measure, by name.

A name may end in a number, "ndcg@10" or "precision@0.2": the list's cut or the
threshold that its metric is made with.
"""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from typing import Literal

from recap_tf.core.config.gin_names import did_you_mean
from recap_tf.metrics.auroc import AUROC
from recap_tf.metrics.average_precision import AveragePrecision
from recap_tf.metrics.binned_auroc import BinnedAUROC, BinnedAUROCBound
from recap_tf.metrics.calibration_error import CalibrationError
from recap_tf.metrics.calibration_ratio import CalibrationRatio
from recap_tf.metrics.ctr import CTR, PCTR
from recap_tf.metrics.example_count import ExampleCount, PositiveCount
from recap_tf.metrics.grouped_auroc import GAUCCoverage, GroupedAUROC
from recap_tf.metrics.hit_rate import HitRate
from recap_tf.metrics.log_loss import LogLoss
from recap_tf.metrics.machinery.example_metric import ExampleMetric
from recap_tf.metrics.mrr import MeanReciprocalRank
from recap_tf.metrics.ndcg import NDCG
from recap_tf.metrics.normalized_entropy import NormalizedEntropy
from recap_tf.metrics.nrce import NRCE
from recap_tf.metrics.precision_recall import Precision, Recall
from recap_tf.metrics.rank_of_positives import (
    HitRateOfPositives,
    PositionOfPositives,
    ReciprocalRankOfPositives,
)
from recap_tf.metrics.rce import RCE
from recap_tf.metrics.sampled_auroc import SampledAUROC

Better = Literal["larger", "smaller"]

SCORE = "score"
"""What is reported of the score that tasks are combined to, as if it were a task."""

DEFAULT = (
    "examples",
    "positives",
    "ctr",
    "pctr",
    "calibration",
    "log_loss",
    "auroc",
    "rce",
    "nrce",
)
"""What is measured unless told otherwise."""
DETAILS = ("pctr", "log_loss", "nrce")
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

    make: Callable[..., ExampleMetric]
    form: str
    better: Better | None = None
    number: type | None = None
    on_score: Literal["gain", "engaged"] | None = None


def _at(
    parameter: str, metric: Callable[..., ExampleMetric]
) -> Callable[..., ExampleMetric]:
    """Makes `metric` with the number in its name as the named parameter."""
    return lambda tasks, number: metric(tasks, **{parameter: number})


def _float32(metric: type[ExampleMetric]) -> Callable[..., ExampleMetric]:
    """Makes `metric`, which keeps all predictions, as they are, in half the memory."""
    return functools.partial(metric, dtype="float32")


_COUNT, _RATE, _SHARE, _PERCENT = "{:,.0f}", "{:.5f}", "{:.4f}", "{:.2f}"
_LARGER: dict = {"form": _SHARE, "better": "larger"}

_CHOICES = {
    "examples": Choice(make=ExampleCount, form=_COUNT, on_score="engaged"),
    "positives": Choice(make=PositiveCount, form=_COUNT, on_score="engaged"),
    "ctr": Choice(make=CTR, form=_RATE, on_score="gain"),
    "pctr": Choice(make=PCTR, form=_RATE, on_score="gain"),
    "calibration": Choice(make=CalibrationRatio, form="{:.3f}"),
    "calibration_error": Choice(
        make=_float32(CalibrationError), form=_RATE, better="smaller"
    ),
    "log_loss": Choice(make=LogLoss, form=_RATE, better="smaller"),
    "normalized_entropy": Choice(make=NormalizedEntropy, form=_SHARE, better="smaller"),
    "rce": Choice(make=RCE, form=_PERCENT, better="larger"),
    "nrce": Choice(make=NRCE, form=_PERCENT, better="larger"),
    "precision": Choice(make=_at("threshold", Precision), number=float, **_LARGER),
    "recall": Choice(make=_at("threshold", Recall), number=float, **_LARGER),
    "auroc": Choice(make=_float32(AUROC), on_score="engaged", **_LARGER),
    # In memory that does not grow with the set.
    "binned_auroc": Choice(make=BinnedAUROC, **_LARGER),
    # How far that may be from "auroc"; 0.5 says that the scores share a bin.
    "binned_auroc_bound": Choice(make=BinnedAUROCBound, form=_RATE),
    "sampled_auroc": Choice(make=SampledAUROC, on_score="engaged", **_LARGER),
    "pr_auc": Choice(make=_float32(AveragePrecision), on_score="engaged", **_LARGER),
    # Within each group; see recap.evaluate.group_feature.
    "gauc": Choice(make=_float32(GroupedAUROC), on_score="engaged", **_LARGER),
    # The share of the impressions, those of groups with both classes, it is about.
    "gauc_coverage": Choice(
        make=_float32(GAUCCoverage), form=_SHARE, on_score="engaged"
    ),
    "mrr": Choice(make=_float32(MeanReciprocalRank), on_score="engaged", **_LARGER),
    "hit": Choice(
        make=_at("k", _float32(HitRate)), number=int, on_score="engaged", **_LARGER
    ),
    "ndcg": Choice(
        make=_at("k", _float32(NDCG)), number=int, on_score="gain", **_LARGER
    ),
    # Within each batch of the evaluation, as one list.
    "position_of_positives": Choice(
        make=PositionOfPositives, form="{:.1f}", better="smaller", on_score="engaged"
    ),
    "reciprocal_rank_of_positives": Choice(
        make=ReciprocalRankOfPositives, on_score="engaged", **_LARGER
    ),
    "hit_of_positives": Choice(
        make=_at("k", HitRateOfPositives), number=int, on_score="engaged", **_LARGER
    ),
}


def find(name: str, setting: str) -> Choice:
    """Finds the metric called `name` and fills its number in.

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
        allowed = value >= 1 if choice.number is int else 0 <= value <= 1
    except ValueError:
        allowed = False
    if not allowed:
        kind = "whole number from 1" if choice.number is int else "number from 0 to 1"
        raise ValueError(
            f"{setting}: the metric {base!r} needs a {kind} after the '@'. "
            f"Received: {name!r}"
        )
    make = functools.partial(choice.make, number=value)
    return dataclasses.replace(choice, make=make)


def check(chosen: Sequence[str], setting: str) -> None:
    """Raises ValueError unless `chosen` are different names of metrics."""
    if not chosen:
        raise ValueError(f"{setting} must name at least one metric.")
    for name in chosen:
        find(name, setting)
        if list(chosen).count(name) > 1:
            raise ValueError(f"{setting} names {name!r} more than once.")


def names() -> list[str]:
    """All names of metrics; "@k" or "@t" stands for the number in a name."""
    marks = {None: "", int: "@k", float: "@t"}
    return [name + marks[choice.number] for name, choice in _CHOICES.items()]


def grouped(chosen: Sequence[str]) -> list[str]:
    """Those of the chosen metrics that need to know users or requests apart."""
    return [name for name in chosen if find(name, "").make(1).needs_groups]
