"""columns.json: what each column of the dense features is, and its statistics."""

import dataclasses
import json
import posixpath
from typing import Any

import tensorflow as tf

from recap_tf.conversion.history import HistorySettings
from recap_tf.conversion.numeric_statistics import NumericColumn
from recap_tf.conversion.side_tables import Join
from recap_tf.core import files


@dataclasses.dataclass(frozen=True, kw_only=True)
class BinaryColumn:
    """A column of `binary`: 1 where a numeric column has no value.

    Args:
        name: as in "age.missing".
        column: the numeric column that lacks values.
        ones: how many training rows have a 1.
    """

    name: str
    column: str
    ones: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class IdColumn:
    """A column of `discrete`: ids of a vocabulary, 0 for rare and unseen values.

    Args:
        size: number of ids, 0 included: the rows an embedding needs.
        rare: training rows whose value is too rare to have an id.
        missing: training rows without a value.
    """

    name: str
    size: int
    rare: int
    missing: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class EmbeddingColumn:
    """A feature that is a stored vector.

    Args:
        name: the feature in the records ("user_embedding").
        column: the input's column that it was read from.
        width: values per vector.
        missing: training rows without one; the records hold zeros there.
    """

    name: str
    column: str
    width: int
    missing: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class LabelColumn:
    """The label of one task.

    Args:
        name: the task's, and the feature's in the records.
        expression: the 0/1 column or the condition it was made from.
        positives: how many training rows have a 1.
    """

    name: str
    expression: str
    positives: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class Columns:
    """What a folder of converted records holds, in the order of its columns.

    Args:
        rows: number of training rows that the statistics are of.
        continuous: numeric columns, those of the history last.
        binary: missing-value marks of numeric columns.
        discrete: id columns, as the ids of their vocabularies.
        embeddings: features that are stored vectors.
        labels: one per task.
        group: the column stored as `meta.COLUMN`, which tells users or requests apart.
        history: the running counts among `continuous`.
        joins: side tables that further rows are joined with too.
    """

    rows: int
    continuous: tuple[NumericColumn, ...] = ()
    binary: tuple[BinaryColumn, ...] = ()
    discrete: tuple[IdColumn, ...] = ()
    embeddings: tuple[EmbeddingColumn, ...] = ()
    labels: tuple[LabelColumn, ...] = ()
    group: str | None = None
    history: HistorySettings | None = None
    joins: tuple[Join, ...] = ()

    @property
    def group_feature(self) -> str | None:
        """Name of the group's feature in the records."""
        return f"meta.{self.group}" if self.group else None

    @property
    def own_numeric(self) -> list[str]:
        """Numeric columns that are read, not counted."""
        counted = set(self.history.features if self.history else ())
        return [c.name for c in self.continuous if c.name not in counted]


_LISTS: dict[str, type] = {
    "continuous": NumericColumn,
    "binary": BinaryColumn,
    "discrete": IdColumn,
    "embeddings": EmbeddingColumn,
    "labels": LabelColumn,
    "joins": Join,
}


def write_columns(path: str, columns: Columns) -> None:
    """Writes `columns` as JSON, one column per line."""
    entries: dict[str, Any] = {}
    for field in dataclasses.fields(Columns):
        value = getattr(columns, field.name)
        if field.name in _LISTS:
            value = [dataclasses.asdict(item) for item in value]
        elif dataclasses.is_dataclass(value):
            value = dataclasses.asdict(value)
        entries[field.name] = value
    lines = [f" {json.dumps(key)}: {_lines(value)}" for key, value in entries.items()]
    files.write_text(path, "{\n" + ",\n".join(lines) + "\n}\n")


def read_columns(path: str) -> Columns:
    """Reads what `write_columns` wrote.

    Raises:
        ValueError: the file is missing or in another format; the message names it.
    """
    if not tf.io.gfile.exists(path):
        raise ValueError(f"The column file {path} does not exist.")
    try:
        with tf.io.gfile.GFile(path) as file:
            entries = json.load(file)
        for key, kind in _LISTS.items():
            entries[key] = tuple(kind(**entry) for entry in entries.get(key, ()))
        if entries.get("history"):
            history = entries["history"]
            entries["history"] = HistorySettings(
                history["time"], tuple(history["keys"]), tuple(history["labels"])
            )
        return Columns(**entries)
    except (json.JSONDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is not a column file of recap_tf.convert. "
            f"Received: {type(error).__name__}: {error}"
        ) from error


def read_columns_beside(schema: str) -> Columns | None:
    """The columns.json in the folder of the schema file `schema`, if there is one."""
    path = posixpath.join(posixpath.dirname(schema), "columns.json")
    return read_columns(path) if tf.io.gfile.exists(path) else None


def _lines(value: Any) -> str:
    if isinstance(value, list) and value:
        return "[\n  " + ",\n  ".join(map(json.dumps, value)) + "\n ]"
    return json.dumps(value)
