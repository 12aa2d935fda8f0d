"""Fits a trained model's post-hoc calibrators and keeps them with its checkpoint."""

import dataclasses
import json
import posixpath
from collections.abc import Callable, Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.checks import check_choice
from recap_tf.core.command import UserError
from recap_tf.data.record_batches import Mode, read_batches
from recap_tf.data.tasks import check_known
from recap_tf.evaluation.calibration_report import (
    CalibrationComparison,
    ScoredSet,
    compare,
)
from recap_tf.evaluation.validation_sets import ValidationSet
from recap_tf.model.calibration_fits import FITS
from recap_tf.model.calibrators import CalibrationMap, Calibrators, Method
from recap_tf.model.ranking_model import RankingModel

FILE = "calibrators.json"
"""In a checkpoint's folder: the maps, and how much they helped."""


@gin.configurable("calibrate", module="recap")
@dataclasses.dataclass(frozen=True, kw_only=True)
class CalibrateSettings:
    """How post-hoc calibrators are fitted: one per task, after the calibration for
    sampling rates, with the examples' weights.

    Args:
        validation_set: name of the set to fit on; must be given. What is chosen or
            reported on the same set looks better than it is.
        validation_sets: task -> another set for it.
        method: "platt" (two numbers; for few positives) or "isotonic" (any rising
            curve; wants some thousand examples, and ties scores).
        methods: task -> another method, or None to leave the task as it is.
        platt_target_smoothing: see `calibration_fits.fit_platt`.
        batches: of recap.evaluate.batch_size examples, read of each set; negative for
            the whole set.
    """

    validation_set: str | None = None
    validation_sets: Mapping[str, str] = dataclasses.field(default_factory=dict)
    method: Method = "isotonic"
    methods: Mapping[str, Method | None] = dataclasses.field(default_factory=dict)
    platt_target_smoothing: bool = True
    batches: int = -1

    def __post_init__(self):
        for setting, method in [
            ("method", self.method),
            *((f"methods[{task!r}]", m) for task, m in self.methods.items() if m),
        ]:
            check_choice(f"recap.calibrate.{setting}", method, sorted(FITS))
        if self.batches == 0:
            raise ValueError(
                "recap.calibrate.batches must be positive, or negative for the whole "
                "set. Received: 0"
            )

    def chosen_sets(
        self, tasks: Sequence[str], sets: Sequence[ValidationSet]
    ) -> dict[str, str]:
        """Task -> the name of the set it is fitted on; without tasks left as they are.

        Raises:
            ValueError: a task or set is unknown, or a set does not report its task.
        """
        for setting in ("validation_sets", "methods"):
            named = getattr(self, setting)
            check_known(f"recap.calibrate.{setting}", named, tasks)
        reported = {named.name: named.tasks or tasks for named in sets}
        chosen = {}
        for task in tasks:
            if self.methods.get(task, self.method) is None:
                continue
            setting, name = "validation_set", self.validation_set
            if task in self.validation_sets:
                setting, name = (
                    f"validation_sets[{task!r}]",
                    self.validation_sets[task],
                )
            check_choice(f"recap.calibrate.{setting}", name, sorted(reported))
            if task not in reported[name]:
                raise ValueError(
                    f"recap.calibrate.{setting} = {name!r} does not report {task!r}. "
                    "Name another set for it in recap.calibrate.validation_sets."
                )
            chosen[task] = name
        if not chosen:
            raise ValueError("recap.calibrate.methods leaves no task to calibrate.")
        return chosen

    def fit(self, task: str, name: str, scored: ScoredSet) -> CalibrationMap:
        """Fits the map of `task` on validation set `name`.

        Raises:
            UserError: the set has no positives or no negatives of it, or the model's
                predictions are not finite.
        """
        scores, labels, weights = scored.column(task)
        for kind, there in (("positives", labels > 0), ("negatives", labels <= 0)):
            if not there.any():
                raise UserError(
                    f"Task {task!r} has no {kind} on validation set {name!r} "
                    f"({len(labels):,} examples), so it cannot be calibrated there. "
                    "Name another set in recap.calibrate.validation_sets, or None in "
                    "recap.calibrate.methods."
                )
        bad = np.count_nonzero(~np.isfinite(scores))
        if bad:
            raise UserError(
                f"Task {task!r} has {bad:,} predictions that are not finite on "
                f"validation set {name!r} ({len(labels):,} examples), so it cannot be "
                "calibrated."
            )
        method = self.methods.get(task, self.method)
        further = {"smooth_targets": self.platt_target_smoothing}
        return FITS[method](
            scores, labels, weights, **(further if method == "platt" else {})
        )


def fit_calibrators(
    model: RankingModel,
    sets: Sequence[ValidationSet],
    settings: CalibrateSettings,
    batch_size: int,
    echo: Callable[[str], None],
) -> tuple[Calibrators, list[CalibrationComparison]]:
    """Fits the calibrators of `model`, and measures on every set what they change.

    Args:
        model: with its trained weights; calibrators that it has are ignored.
        sets: the ranker's named sets.
        settings: what to fit, and on which of the sets.
        batch_size: examples per batch.
        echo: prints a line to the user.

    Raises:
        UserError, ValueError: see `CalibrateSettings`.
    """
    chosen = settings.chosen_sets(model.tasks, sets)
    by_name = {named.name: named for named in sets}
    predict = tf.function(
        lambda features: model.log_odds(model(features, training=False)["logits"]),
        reduce_retracing=True,
    )

    def scored(name: str) -> ScoredSet:
        echo(f"Scoring {name}.")
        batches = read_batches(
            by_name[name].records, model.tasks, Mode.EVALUATE, batch_size
        ).take(settings.batches)
        rows = [(predict(f).numpy(), y.numpy(), w.numpy()) for f, y, w in batches]
        if not rows:
            raise UserError(f"Validation set {name!r} holds no examples.")
        columns = (np.concatenate(column) for column in zip(*rows, strict=True))
        return ScoredSet(model.tasks, *columns)

    fitted = {name: scored(name) for name in dict.fromkeys(chosen.values())}
    maps = {
        task: settings.fit(task, name, fitted[name]) for task, name in chosen.items()
    }
    calibrators = Calibrators(maps, chosen)
    comparisons = []
    for named in sets:
        seen = fitted.pop(named.name, None) or scored(named.name)
        for task in named.tasks or model.tasks:
            if task in maps:
                comparisons.append(compare(calibrators, named.name, task, seen))
    return calibrators, comparisons


def write_calibrators(
    path: str, calibrators: Calibrators, comparisons: Sequence[CalibrationComparison]
) -> None:
    """Puts calibrators into the checkpoint in folder `path`, in place of older ones."""
    stored = {
        "calibrators": calibrators.as_json(),
        "comparisons": [compared.as_json() for compared in comparisons],
    }
    files.write_text(posixpath.join(path, FILE), json.dumps(stored, indent=1) + "\n")


def has_calibrators(path: str) -> bool:
    """Whether the checkpoint in folder `path` has calibrators."""
    return tf.io.gfile.exists(posixpath.join(path, FILE))


def read_calibrators(path: str, tasks: Sequence[str]) -> Calibrators | None:
    """Reads the calibrators of the checkpoint in folder `path`; None if it has none.

    Raises:
        UserError: they are damaged.
        ValueError: one is of a task that is not among `tasks`.
    """
    if not has_calibrators(path):
        return None
    file_path = posixpath.join(path, FILE)
    try:
        with tf.io.gfile.GFile(file_path) as file:
            calibrators = Calibrators.from_json(json.load(file)["calibrators"])
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f"{file_path} holds no calibrators: {error}. Make them again with "
            "recap_tf.calibrate."
        ) from error
    check_known(file_path, calibrators.maps, tasks)
    return calibrators
