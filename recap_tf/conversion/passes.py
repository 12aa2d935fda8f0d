"""A whole conversion: training rows, or further rows with their vocabularies."""

import dataclasses
import os
import posixpath
from collections.abc import Sequence

import tensorflow as tf

from recap_tf.conversion import data_folder, row_records
from recap_tf.conversion.columns import Columns
from recap_tf.conversion.expressions import Expression
from recap_tf.conversion.feature_choice import FeatureChoice, choose
from recap_tf.conversion.fitting import Fitted, fit
from recap_tf.conversion.history import (
    History,
    HistorySettings,
    latest_history,
    read_history,
)
from recap_tf.conversion.impressions import Impressions, first_time
from recap_tf.conversion.label_expressions import Label, named_label
from recap_tf.conversion.ranker_config import (
    VALIDATION_LINE,
    WITHOUT_VALIDATION,
    ranker_config,
)
from recap_tf.conversion.report import print_features, print_split
from recap_tf.conversion.side_tables import Join
from recap_tf.core import files
from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from recap_tf.core.row_files import find_tables
from recap_tf.core.values.time_form import TimeForm

VALIDATION = "validation"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Source:
    """The rows of a conversion, and where they go.

    Args:
        inputs: --input: paths, globs, folders.
        out: --out, a folder.
        split: --split-name, the record files' prefix.
        joins: --join and --vectors, the side tables.
        where: --where; rows that do not meet it are left out.
        time_form: --time-format of texts of times; None for ISO 8601.
        shards: --shards, at least 1; None chooses by the number of rows.
        overwrite: --overwrite; else a folder that holds such records is an error.
    """

    inputs: Sequence[str]
    out: str
    split: str
    joins: Sequence[Join] = ()
    where: Expression | None = None
    time_form: TimeForm | None = None
    shards: int | None = None
    overwrite: bool = False

    def __post_init__(self):
        if self.shards is not None:
            check_range("--shards", self.shards, at_least=1, error=UserError)

    def rows(self, labels: Sequence[Label], joins: Sequence[Join]) -> Impressions:
        """Opens the files."""
        tables = find_tables(self.inputs)
        return Impressions(
            tables,
            joins=joins,
            where=self.where,
            labels=labels,
            time_form=self.time_form,
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Training:
    """The settings of what is learned from the training rows.

    Args:
        labels: --labels, one per task.
        choice: which columns become features.
        history_keys: --history, columns (or A+B) by whose values rows are counted.
        min_count: --min-count; a value that occurs less often gets no id.
        validation_share: --validation-share, the last rows in [0, 1), kept from
            training.
    """

    labels: Sequence[Label]
    choice: FeatureChoice
    history_keys: Sequence[str] = ()
    min_count: int = 5
    validation_share: float = 0.0

    def __post_init__(self):
        check_range(
            "--validation-share",
            self.validation_share,
            at_least=0,
            below=1,
            error=UserError,
        )
        if self.history_keys and not self.choice.time:
            raise UserError("--history needs --time, by which the rows are sorted.")

    def history(self, rows: Impressions) -> HistorySettings | None:
        """The running counts, whose columns `rows` must have."""
        if not self.history_keys:
            return None
        labels = tuple(label.name for label in self.labels)
        keys = tuple(self.history_keys)
        settings = HistorySettings(self.choice.time, keys, labels)
        rows.require(settings.columns)
        return settings


def convert_training_rows(source: Source, training: Training) -> None:
    """Learns vocabularies and statistics; writes all that a folder holds.

    Raises:
        UserError: the rows or the settings do not allow it; nothing is left behind.
    """
    share, out = training.validation_share, source.out
    splits = [source.split, VALIDATION] if share else [source.split]
    if share and source.split == VALIDATION:
        raise UserError("--validation-share needs another --split-name.")
    if not source.overwrite:
        data_folder.check_free(out, splits, fit=True)
    rows = source.rows(training.labels, source.joins)
    settings = training.history(rows)
    candidates = choose(training.choice, rows)
    train, held_out = (0, None), None
    if share:
        total = rows.count()
        cut = total - round(total * share)
        train, held_out = (0, cut), (cut, total)
        if cut in (0, total):
            raise UserError(
                f"--validation-share {share} of {total} rows leaves "
                f"{cut} for training and {total - cut} for validation."
            )

    with data_folder.staging(out) as aside:
        fitted = fit(
            rows,
            candidates,
            training.choice,
            history=settings,
            min_count=training.min_count,
            window=train,
        )
        print_features(fitted, training.choice)
        row_records.check_label_names(fitted.columns)
        features = row_records.schema_features(fitted.columns)
        data_folder.write_fitted(aside, fitted, features)
        history = History(settings) if settings else None
        end = fitted.columns.rows
        _write(source, source.split, rows, fitted, aside, history, (0, end))
        if held_out:
            _write(source, VALIDATION, rows, fitted, aside, history, held_out)
        config = ranker_config(fitted.columns, source.split, validation=bool(share))
        files.write_text(posixpath.join(aside, data_folder.CONFIG), config)
        gone = data_folder.publish(aside, out, splits, fit=True)
    for name in gone:
        print(f"Removed the {name} records: their ids were of the old vocabularies.")
    config = posixpath.join(out, data_folder.CONFIG)
    print(f"Train with: python -m recap_tf.train --config {config}")


def convert_with_schema(source: Source, schema: str) -> None:
    """Converts further rows with the vocabularies beside `schema`.

    Raises:
        UserError: as `convert_training_rows`.
    """
    folder, name = posixpath.split(schema)
    if name != data_folder.SCHEMA:
        raise UserError(
            f"--schema must name the {data_folder.SCHEMA} of a converted folder. "
            f"Received: {schema}"
        )
    if not source.overwrite:
        data_folder.check_free(source.out, [source.split], fit=False)
    fitted = data_folder.read_fitted(folder)
    columns = fitted.columns
    labels = [named_label(label.name, label.expression) for label in columns.labels]
    rows = source.rows(labels, source.joins or columns.joins)
    rows.require(row_records.columns_read(columns))
    count = rows.count()
    if not count:
        raise UserError(f"--input {' '.join(source.inputs)}: there are no rows.")
    history = None
    if columns.history:
        history = _continued(columns.history, rows, folder, source.out)
    with data_folder.staging(source.out) as aside:
        _write(source, source.split, rows, fitted, aside, history, (0, count))
        data_folder.publish(aside, source.out, [source.split], fit=False)
    if source.split == VALIDATION:
        _name_validation(folder, source.out, columns)


def _write(
    source: Source,
    split: str,
    rows: Impressions,
    fitted: Fitted,
    folder: str,
    history: History | None,
    window: tuple[int, int],
) -> None:
    positives, without = row_records.write_records(
        rows,
        fitted,
        folder,
        split,
        shards=source.shards,
        history=history,
        window=window,
        doing=f"writing {split}",
    )
    if history:
        history.save(data_folder.history_folder(folder, split))
    print_split(split, window[1] - window[0], positives, without, rows)


def _continued(
    settings: HistorySettings, rows: Impressions, folder: str, out: str
) -> History:
    start = first_time(rows, settings.time)
    saved = data_folder.histories(folder) + data_folder.histories(out)
    latest = latest_history(saved, start)
    if latest is None:
        raise UserError(
            f"{rows.files[0].path}: the first row's {settings.time} is {start}, which "
            f"is before the end of the training rows' history in {folder}."
        )
    print(f"history: continued from {latest}")
    return read_history(settings, latest)


def _name_validation(folder: str, out: str, columns: Columns) -> None:
    """Adds the validation files to the config, if that is as it was written."""
    path = posixpath.join(folder, data_folder.CONFIG)
    same_folder = os.path.normpath(out) == os.path.normpath(folder)
    if not (same_folder and tf.io.gfile.exists(path)):
        return
    with tf.io.gfile.GFile(path) as file:
        text = file.read()
    for split in data_folder.splits(folder):
        if text == ranker_config(columns, split, validation=False):
            files.write_text(path, ranker_config(columns, split, validation=True))
            return
    if VALIDATION_LINE not in text:
        print(f"{path} was edited. To evaluate on the new records, take out:")
        print(*(f"    {line}" for line in WITHOUT_VALIDATION), sep="\n")
        print(f"and add:\n    {VALIDATION_LINE}")
