"""Which made-up data sets a ranker's config needs."""

import dataclasses
import math
from collections.abc import Callable

from recap_tf.core.command import UserError
from recap_tf.data.schema import read_schema
from recap_tf.evaluation.evaluation_report import Report
from recap_tf.evaluation.slices import EVERYTHING
from recap_tf.settings import Ranker
from recap_tf.synthesis.record_sets import SyntheticData, SyntheticSet, make_data

TRAIN = "train"


def synthetic_sets(ranker: Ranker, data: SyntheticData) -> dict[str, SyntheticSet]:
    """Name -> what to make: the training set, and the validation sets but "train"."""
    sets = {
        TRAIN: SyntheticSet(
            examples=data.examples,
            files=data.files,
            sampling_rates=ranker.train_data.sampling_rates,
            dated=data.log is not None,
        )
    }
    for named in ranker.validation_sets:
        if named.name != TRAIN:
            sets[named.name] = SyntheticSet(
                examples=data.validation_examples,
                files=data.validation_files,
                sampling_rates=named.records.sampling_rates,
            )
    return sets


def balancing_rates(ranker: Ranker) -> dict[str, float]:
    """Task -> the natural rate at which its own validation set has half positives.

    Sampling rates are chosen to that end, so they tell how rare a task is.
    """
    rates = {}
    for named in ranker.validation_sets:
        for task, (positive, negative) in named.records.sampling_rates.items():
            if list(named.tasks or ()) == [task]:
                rates[task] = negative / (positive + negative)
    return rates


def make_synthetic_data(
    ranker: Ranker, data: SyntheticData, echo: Callable[[str], None]
) -> dict:
    """Makes the data that `ranker` reads, unless it is there; returns its manifest.

    Raises:
        UserError: the ranker has no SyntheticData, or its folder holds other data.
    """
    rates = balancing_rates(ranker) | dict(data.natural_rates)
    try:
        return make_data(
            dataclasses.replace(data, natural_rates=rates),
            read_schema(ranker.train_data.schema),
            ranker.train_data.features,
            ranker.tasks,
            synthetic_sets(ranker, data),
            echo,
        )
    except FileExistsError as error:
        raise UserError(str(error)) from error


def reached_lines(manifest: dict, report: Report) -> list[str]:
    """How far the model came: per set and task, its AUROC and the best reachable AUROC.

    The training set is left out; what a model has seen it may rank better than that.
    """
    lines = []
    for name, slices in report.items():
        of_set = manifest["sets"].get(name, {"tasks": {}})["tasks"]
        for task, measured in slices[EVERYTHING].items():
            best = of_set.get(task, {}).get("best_auroc")
            if name == TRAIN or best is None or "auroc" not in measured:
                continue
            auroc = measured["auroc"].value
            if math.isnan(auroc):
                continue
            share = (auroc - 0.5) / (best - 0.5)
            lines.append(
                f"{name}, {task}: AUROC {auroc:.4f}, {share:.0%} of the way "
                f"from 0.5 to the best reachable {best:.4f}"
            )
    return lines
