"""The page: what is computed for it, its parts, and how it gets where it belongs."""

import datetime
import posixpath
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from recap_tf.conversion.columns import read_columns_beside
from recap_tf.core import files
from recap_tf.core.command import UserError, user_message
from recap_tf.core.config import gin_config
from recap_tf.core.config.gin_names import did_you_mean
from recap_tf.core.training import checkpoints
from recap_tf.data import sampling
from recap_tf.evaluation.evaluation_batches import EvaluationBatch
from recap_tf.evaluation.evaluation_report import Report
from recap_tf.evaluation.report_settings import ReportSettings
from recap_tf.evaluation.validation_sets import ValidationSet
from recap_tf.inspection.survey import SplitSummary
from recap_tf.model.scorer import Scorer
from recap_tf.report import (
    data_section,
    importance_section,
    metrics_section,
    model_section,
    page_file,
    summary_section,
    training_section,
)
from recap_tf.report.curves import TaskScores
from recap_tf.report.curves_section import task_curves
from recap_tf.report.data_statistics import survey
from recap_tf.report.drawing import task_colors
from recap_tf.report.feature_groups import column_groups, whole_features
from recap_tf.report.importance import Importance, PermutationImportance
from recap_tf.report.markup import Markup, element, fold
from recap_tf.report.report_rows import (
    ReportRow,
    first_set,
    report_rows,
    set_groups,
    short_names,
)
from recap_tf.report.row_sample import RowSample
from recap_tf.report.training_logs import read_runs, save_dir_of
from recap_tf.settings import Ranker

PAGE = "index.html"
_BATCH_SIZE = 1024


class ReportWriter:
    """Watches an evaluation and makes a page of it.

    Args:
        folder: where the page goes, as `index.html`.
        ranker: its validation sets, and its training data for statistics.
        model: with the checkpoint's weights.
        checkpoint: the checkpoint's folder, for its logs and settings.
        settings: how much of the data is looked at.

    Raises:
        UserError: the folder cannot be written to, or holds another index.html.
        ValueError: recap.report.importance_set is no validation set.
    """

    def __init__(
        self,
        folder: str,
        ranker: Ranker,
        model: Scorer,
        checkpoint: str,
        settings: ReportSettings,
    ):
        self._sets = {named.name: named for named in ranker.validation_sets}
        if not self._sets:
            raise UserError("--report: recap.ranker.validation_sets is empty.")
        chosen = settings.importance_set
        if chosen is not None and chosen not in self._sets:
            raise ValueError(
                f"recap.report.importance_set = {chosen!r} is none of the validation "
                f"sets {list(self._sets)}.{did_you_mean(chosen, self._sets)}"
            )
        self._path = posixpath.join(folder, PAGE)
        page_file.check_ours(self._path)
        files.check_writable("--report", folder)
        self._ranker, self._model, self._checkpoint = ranker, model, checkpoint
        self._settings = settings
        self._importance_set = chosen or next(iter(self._sets))
        self._columns = read_columns_beside(ranker.train_data.schema)
        self._names = short_names(model.tasks)
        self._colors = task_colors(model.tasks)
        self._scores = {
            name: RowSample(settings.curve_examples, settings.seed)
            for name in self._sets
        }
        self._inputs = RowSample(settings.importance_examples, settings.seed)

    def observe(
        self, name: str, batch: EvaluationBatch, outputs: Mapping[str, tf.Tensor]
    ) -> None:
        """Draws from a batch of the evaluation; see `Evaluator.evaluate`."""
        truth = {"labels": batch.labels, "weights": batch.weights}
        predicted = ("probabilities", "calibrated_probabilities")
        self._scores[name].add(truth | {key: outputs[key] for key in predicted})
        if name == self._importance_set:
            named = {f"feature {key}": x for key, x in batch.features.items()}
            self._inputs.add(truth | named)

    def write(self, report: Report) -> str:
        """Writes the page about `report`; returns its path."""
        page_file.publish(self._path, self._page(report))
        return self._path

    def _page(self, report: Report) -> str:
        rows = report_rows(report)
        step = checkpoints.step_of(self._checkpoint)
        parts = {
            "Summary": self._summary(rows),
            "Metrics": metrics_section.metrics_section(rows, self._names, self._colors),
            "Curves": self._curves(rows),
            "Training": self._training(step, first_set(rows)),
            "Importance": self._importance(),
            "Data": self._data(),
            "Model": model_section.model_section(self._model, self._config()),
        }
        return page_file.html_page(
            f"Ranker at step {step:,}", self._head(step, rows), parts
        )

    def _head(self, step: int, rows: list[ReportRow]) -> Markup:
        now = datetime.datetime.now(datetime.UTC)
        examples = {
            row.set_name: row.metric("examples").value
            for row in rows
            if row.of_everything and "examples" in row.metrics
        }
        cards = {
            "step": f"{step:,}",
            "weights": f"{self._model.count_params():,}",
            "tasks": len(self._model.tasks),
            "validation sets": len(self._sets),
        }
        if examples:
            cards["examples evaluated"] = f"{sum(examples.values()):,.0f}"
        return element(
            "header",
            element("h1", f"Ranker at step {step:,}"),
            element("p", model_section.architecture(self._model), class_="lead"),
            element(
                "p",
                "Checkpoint ",
                element("code", self._checkpoint),
                f", evaluated {now:%Y-%m-%d %H:%M} UTC",
                class_="lead",
            ),
            element(
                "dl",
                [
                    element("div", element("dt", name), element("dd", value))
                    for name, value in cards.items()
                ],
                class_="cards",
            ),
        )

    def _summary(self, rows: list[ReportRow]) -> Markup:
        return element(
            "div",
            element(
                "p",
                "Examples count as their set's sampling rates say, and predictions are "
                "the calibrated probabilities: all numbers are about the original "
                "traffic. ± is one standard error, bars are 95 % intervals. A chart "
                "explains itself when the mouse rests on its title.",
                class_="hint",
            ),
            summary_section.summary_section(
                rows, self._names, self._colors, first_set(rows)
            ),
        )

    def _curves(self, rows: list[ReportRow]) -> Markup:
        drawn = []
        of_tasks = [r for r in rows if r.of_everything and r.task in self._names]
        for title, some in set_groups(of_tasks).items():
            several = len({row.set_name for row in some}) > 1
            samples = [self._scores[row.set_name] for row in some]
            largest = max(samples, key=lambda sample: sample.seen)
            note = f"{len(some)} task{'s'[: len(some) != 1]}"
            if largest.seen > largest.size:
                note += (
                    f", from {largest.size:,} examples at random of "
                    f"{'up to ' if several else ''}{largest.seen:,}"
                )
            drawn.append(
                fold(
                    [element("b", title), element("span", note, class_="hint")],
                    [self._task_curves(row, several) for row in some],
                    open_=not drawn,
                )
            )
        return element("div", drawn)

    def _task_curves(self, row: ReportRow, name_set: bool) -> Markup:
        rows = self._scores[row.set_name].rows()
        if not rows:
            return element("p", f"{row.set_name} holds no examples.", class_="warning")
        task = self._model.tasks.index(row.task)
        title = self._names[row.task] + (f" on {row.set_name}" if name_set else "")

        ratio = self._model.calibration_ratios[row.task]
        trained = rows["probabilities"][:, task]
        stages = {"as trained": trained}
        if ratio != 1.0:
            stages["sampling undone"] = sampling.undo_sampling(trained, ratio)
        stages["calibrated"] = rows["calibrated_probabilities"][:, task]
        scored = {
            stage: TaskScores(
                rows["labels"][:, task], rows["weights"][:, task], predicted
            )
            for stage, predicted in without_repeats(stages).items()
        }
        return task_curves(row, title, scored, self._colors[row.task])

    def _training(self, step: int, primary: str) -> Markup:
        save_dir = save_dir_of(self._checkpoint)
        runs = read_runs(save_dir) if save_dir else {}
        if not runs:
            return element(
                "p", "No TensorBoard logs lie beside this checkpoint.", class_="hint"
            )
        return training_section.training_section(
            runs, self._names, self._colors, step, primary
        )

    def _importance(self) -> Markup:
        rows, settings = self._inputs.rows(), self._settings
        if not rows:
            nothing = f"{self._importance_set} holds no examples."
            if not settings.importance_examples:
                nothing = "Left out: recap.report.importance_examples = 0."
            return element("p", nothing, class_="hint")
        features = {
            key.removeprefix("feature "): values
            for key, values in rows.items()
            if key.startswith("feature ")
        }

        def logits(inputs):
            return self._model(inputs, training=False)["logits"]

        permutation = PermutationImportance(
            logits,
            features,
            rows["labels"],
            rows["weights"],
            repeats=settings.importance_repeats,
            batch_size=_BATCH_SIZE,
            seed=settings.seed,
        )
        whole = list(permutation.measure(whole_features(features)))
        # The columns of a feature without any effect have none either.
        used = {
            name
            for part in whole
            if not part.none_at_all
            for name in part.group.columns
        }
        groups = column_groups(
            {name: values for name, values in features.items() if name in used},
            self._sets[self._importance_set].records,
            self._columns,
            settings.importance_columns,
        )
        columns: list[Importance] = list(permutation.measure(groups))
        return element(
            "div",
            element(
                "p",
                f"Drop in AUROC on {len(rows['labels']):,} examples of ",
                element("b", self._importance_set),
                ", drawn at random, when a part of the input is permuted among them: "
                f"mean of {settings.importance_repeats} permutations ± standard error. "
                "What two parts both say is lost only when both are permuted.",
                class_="hint",
            ),
            importance_section.importance_section(
                whole, columns, self._names, self._colors
            ),
        )

    def _data(self) -> Markup:
        training = ValidationSet(name="training", records=self._ranker.train_data)
        title = "training" if "training" not in self._sets else "training data"
        sets = {title: training} | self._sets
        summaries: dict[str, SplitSummary] = {}
        left_out: dict[str, str] = {}
        for name, named in sets.items():
            try:
                summaries[name] = survey(
                    name,
                    named.records,
                    self._model.tasks,
                    self._columns,
                    self._settings.statistics_examples,
                )
            except (OSError, ValueError) as error:
                # The training data may be long gone: no reason to lose the page.
                reason = user_message(error)
                if reason is None:
                    raise
                left_out[name] = reason
        return data_section.data_section(
            summaries, left_out, self._columns, self._names, self._colors
        )

    def _config(self) -> dict[str, str]:
        texts = {"Settings of this evaluation": gin_config.operative()}
        path = posixpath.join(self._checkpoint, "config.gin")
        if tf.io.gfile.exists(path):
            with tf.io.gfile.GFile(path) as file:
                texts["Settings of the training"] = file.read()
        return texts


def without_repeats(stages: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The stages without those that the next stage leaves as they are."""
    chosen: dict[str, np.ndarray] = {}
    for stage, values in reversed(stages.items()):
        following = next(reversed(chosen.values()), None)
        if following is None or not np.allclose(values, following, 1e-5, 0, True):
            chosen[stage] = values
    return dict(reversed(chosen.items()))
