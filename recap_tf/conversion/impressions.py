"""The rows to convert: read in chunks, joined, filtered, labelled and counted."""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import pyarrow as pa
from tqdm import tqdm

from recap_tf.conversion.column_values import vectors
from recap_tf.conversion.expressions import Expression
from recap_tf.conversion.history import History
from recap_tf.conversion.label_expressions import Label
from recap_tf.conversion.side_tables import Join, SideTable
from recap_tf.core.command import UserError
from recap_tf.core.row_files import TableFile
from recap_tf.core.values.arrow_kinds import BadValue
from recap_tf.core.values.numeric_values import numbers
from recap_tf.core.values.time_form import TimeForm
from recap_tf.core.values.time_values import order


@dataclasses.dataclass(frozen=True)
class Chunk:
    """Some rows of one file.

    Args:
        rows: (n,) numbers of the rows in the file, counted from 1.
        table: the columns that were asked for, (n,) each.
        labels: (n, labels), 0 or 1.
        history: (n, features of the history).
        time_form: of texts of times; None for ISO 8601.
    """

    path: str
    rows: np.ndarray
    table: pa.Table
    labels: np.ndarray
    history: np.ndarray
    time_form: TimeForm | None = None

    def column(self, name: str) -> pa.Array:
        """The values of a column, as they are."""
        return self.table[name].combine_chunks()

    def numbers(self, name: str) -> np.ndarray:
        """float32 values of a numeric column, NaN where one is missing."""
        try:
            # What does not fit float32 is infinite in the records too.
            with np.errstate(over="ignore"):
                return numbers(self.column(name)).astype(np.float32)
        except BadValue as error:
            raise UserError(
                f"{self._where(name, error)} is {error}, which is no number; list the "
                "column under --ids or --exclude."
            ) from error

    def vectors(self, name: str, width: int) -> np.ndarray:
        """float32 (n, width), zeros where the vector is missing."""
        try:
            return vectors(self.column(name), width)
        except BadValue as error:
            raise UserError(f"{self._where(name, error)} has {error}.") from error

    def times(self, name: str) -> np.ndarray:
        """Values that order as the times of the rows do."""
        try:
            return order(self.column(name), self.time_form)
        except BadValue as error:
            raise UserError(f"{self._where(name, error)} is {error}.") from error

    def _where(self, column: str, error: BadValue) -> str:
        return f"{self.path}, row {self.rows[error.index]}: column {column!r}"


@dataclasses.dataclass
class JoinedRows:
    """How many rows a side table was asked for, and how many it lacked."""

    asked: int = 0
    lacking: int = 0


class Impressions:
    """Rows of files, with the columns of side tables, that meet a condition.

    Args:
        files: read one after another.
        joins: the side tables.
        where: rows that do not meet it are left out.
        labels: computed for every row, in the order of the labels' columns.
        time_form: of texts of times; None for ISO 8601.

    Raises:
        UserError: a file or side table lacks a column that is named.
    """

    def __init__(
        self,
        files: Sequence[TableFile],
        *,
        joins: Sequence[Join] = (),
        where: Expression | None = None,
        labels: Sequence[Label] = (),
        time_form: TimeForm | None = None,
    ):
        self.files = files
        self.where = where
        self.labels = labels
        self._time_form = time_form
        self.kinds = dict(files[0].kinds)
        self.unreadable = dict(files[0].unreadable)
        self.side_tables = []
        for join in joins:
            for file in files:
                file.require([join.key])
            side = SideTable(join, set(self.kinds))
            self.kinds |= side.kinds
            self.unreadable |= side.unreadable
            self.side_tables.append(side)
        if where:
            self.require(where.columns)
        for label in labels:
            self.require(label.columns)
        self.without_label = {}
        self.joined = [JoinedRows() for _ in self.side_tables]

    def require(self, columns: Iterable[str]) -> None:
        """Raises UserError, with file and column, where one of them is missing."""
        joined = self._joined_names()
        for file in self.files:
            file.require([n for n in columns if n not in joined], also=joined)

    def count(self) -> int:
        """How many rows there are."""
        if self.where is None and all(file.rows_are_exact for file in self.files):
            return sum(file.rows for file in self.files)
        return sum(
            len(rows) for _, rows, _ in self._filtered(self.where_columns, "counting")
        )

    @property
    def where_columns(self) -> list[str]:
        """The columns that the condition reads."""
        return self.where.columns if self.where else []

    def chunks(
        self,
        columns: Sequence[str],
        *,
        history: History | None = None,
        window: tuple[int, int | None] = (0, None),
        doing: str | None = None,
    ) -> Iterator[Chunk]:
        """Yields the rows, in order.

        Args:
            columns: what the chunks hold.
            history: counts the rows as they pass.
            window: the first row, counted from 0 in this stream, and the end.
            doing: what the progress bar says; None shows none.

        Raises:
            UserError: a value that a label or the history cannot use, or rows that
                are not sorted by time.
        """
        needed = dict.fromkeys(columns)
        for label in self.labels:
            needed |= dict.fromkeys(label.columns)
        if history:
            needed |= dict.fromkeys(history.settings.columns)
        self.require(needed)
        self.without_label = {label.name: 0 for label in self.labels}
        position, (start, end) = 0, window
        for path, rows, table in self._filtered(list(needed), doing):
            first = max(start - position, 0)
            last = len(rows) if end is None else min(end - position, len(rows))
            position += len(rows)
            if first >= last:
                continue
            rows, table = rows[first:last], table.slice(first, last - first)
            labels = self._labels(path, rows, table)
            chunk = Chunk(path, rows, table, labels, None, self._time_form)
            features = np.zeros((len(rows), 0))
            if history:
                moments = _sorted_times(chunk, history)
                features = history.features(table, moments, chunk.labels)
            yield dataclasses.replace(chunk, history=features)
            if end is not None and position >= end:
                return

    def _filtered(
        self, columns: Sequence[str], doing: str | None
    ) -> Iterator[tuple[str, np.ndarray, pa.Table]]:
        """Files' chunks with the joined columns, without the rows left out."""
        wanted = list(dict.fromkeys([*columns, *self.where_columns]))
        joined = [
            (side, [name for name in wanted if name in side.columns], counts)
            for side, counts in zip(self.side_tables, self.joined, strict=True)
        ]
        columns = [name for name in wanted if name not in self._joined_names()]
        columns += [side.join.key for side, names, _ in joined if names]
        sizes = [file.rows for file in self.files]
        total = None if None in sizes else sum(sizes)
        progress = {"total": total, "unit": " rows", "unit_scale": True, "desc": doing}
        with tqdm(**progress, disable=doing is None) as bar:
            for file in self.files:
                for first, table in file.chunks(columns):
                    rows = np.arange(first, first + table.num_rows)
                    for side, names, counts in joined:
                        if names:
                            key = table[side.join.key].combine_chunks()
                            arrays, lacking = side.look_up(key, names)
                            for name, array in arrays.items():
                                table = table.append_column(name, array)
                            counts.asked += len(rows)
                            counts.lacking += lacking
                    bar.update(table.num_rows)
                    if self.where:
                        keep = self.where.holds(table, self._time_form) == 1
                        rows, table = rows[keep], table.filter(pa.array(keep))
                    if len(rows):
                        yield file.path, rows, table
            # The number of rows of a CSV file was an estimate.
            bar.total = bar.n

    def _joined_names(self) -> set[str]:
        return {name for side in self.side_tables for name in side.columns}

    def _labels(self, path: str, rows: np.ndarray, table: pa.Table) -> np.ndarray:
        columns = np.zeros((len(rows), len(self.labels)), np.int64)
        for index, label in enumerate(self.labels):
            try:
                values = label.values(table, self._time_form)
            except BadValue as error:
                raise UserError(
                    f"{path}, row {rows[error.index]}: label column {label.column!r} "
                    f"must be 0 or 1. Received: {error}"
                ) from error
            self.without_label[label.name] += int((values < 0).sum())
            columns[:, index] = np.maximum(values, 0)
        return columns


def first_time(impressions: Impressions, column: str, start: int = 0) -> float | None:
    """The time of row `start`; None if there is no such row."""
    for chunk in impressions.chunks([column], window=(start, start + 1)):
        return chunk.times(column)[0]
    return None


def _sorted_times(chunk: Chunk, history: History) -> np.ndarray:
    name = history.settings.time
    moments = chunk.times(name)
    before = moments[:1] if history.time is None else [history.time]
    before = np.concatenate([before, moments[:-1]])
    wrong = np.flatnonzero(moments < before)
    if len(wrong):
        row = wrong[0]
        raise UserError(
            f"{chunk.path}, row {chunk.rows[row]}: {name} is {moments[row]}, earlier "
            f"than {before[row]} before it; --history needs rows sorted by --time."
        )
    return moments
