"""Streaming summary of one feature of the records, column by column."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from recap_tf.data.schema import VARIABLE, Feature

COUNTED_VALUES = 10_000
"""Different values of a column are counted up to this number."""


class FeatureSummary:
    """Counts, ranges and different values of a feature.

    Args:
        feature: what the schema says of it.
        sizes: the vocabulary size of each column of an id feature; None for others.
    """

    def __init__(self, feature: Feature, sizes: Sequence[int] | None = None):
        self.feature = feature
        self.records = 0
        self.present = 0
        self.values = 0
        self.shortest, self.longest = None, 0
        columns = 1 if feature.length == VARIABLE else feature.length
        self.zeros = np.zeros(columns, np.int64)
        self.ones = np.zeros(columns, np.int64)
        self.not_finite = np.zeros(columns, np.int64)
        self.min = np.full(columns, np.inf)
        self.max = np.full(columns, -np.inf)
        self._sum = np.zeros(columns)
        self.sizes = None if sizes is None else np.array(sizes)
        self._seen = None if sizes is None else [np.zeros(n, bool) for n in sizes]
        self._different: list[np.ndarray | None] = [np.array([], np.int64)] * columns
        self.outside = np.zeros(columns, np.int64)

    def add(self, values: np.ndarray, splits: np.ndarray) -> tuple[int, int] | None:
        """Counts a batch; returns (record, column) of its first id that is outside.

        Args:
            values: of all records, one after another.
            splits: (records + 1,), where each record's values begin and the last's end.
        """
        lengths = np.diff(splits)
        there = lengths > 0
        self.records += len(lengths)
        self.present += int(there.sum())
        self.values += len(values)
        if there.any():
            shortest = int(lengths[there].min())
            self.shortest = min(shortest, self.shortest or shortest)
            self.longest = max(self.longest, int(lengths.max()))
        if self.feature.dtype == "bytes_list" or not len(values):
            return None
        table = values.reshape(-1, len(self.zeros))
        self._add_numbers(table)
        if self.feature.dtype != "int64_list":
            return None
        if self._seen is None:
            self._add_different(table)
            return None
        return self._add_ids(table, np.flatnonzero(there))

    def _add_numbers(self, table: np.ndarray) -> None:
        numbers = table.astype(np.float64)
        finite = np.isfinite(numbers)
        self.not_finite += (~finite).sum(axis=0)
        self.zeros += (numbers == 0).sum(axis=0)
        self.ones += (numbers == 1).sum(axis=0)
        self._sum += np.where(finite, numbers, 0.0).sum(axis=0)
        low = np.where(finite, numbers, np.inf).min(axis=0)
        high = np.where(finite, numbers, -np.inf).max(axis=0)
        self.min, self.max = np.minimum(self.min, low), np.maximum(self.max, high)

    def _add_different(self, table: np.ndarray) -> None:
        for column, known in enumerate(self._different):
            if known is not None:
                known = np.union1d(known, table[:, column])
                self._different[column] = (
                    known if len(known) <= COUNTED_VALUES else None
                )

    def _add_ids(self, table: np.ndarray, rows: np.ndarray) -> tuple[int, int] | None:
        outside = (table < 0) | (table >= self.sizes)
        for column, seen in enumerate(self._seen):
            seen[table[~outside[:, column], column]] = True
        self.outside += outside.sum(axis=0)
        if not outside.any():
            return None
        row, column = np.argwhere(outside)[0]
        return int(rows[row]), int(column)

    @property
    def mean(self) -> np.ndarray:
        """The mean of the finite values, per column."""
        per_column = self.values // len(self.zeros)
        return self._sum / np.maximum(per_column - self.not_finite, 1)

    @property
    def constant(self) -> np.ndarray:
        """Whether all finite values are equal, per column."""
        return self.min == self.max

    def different(self) -> list[int | None]:
        """The number of different ids, per column; None means too many."""
        if self._seen is not None:
            return [int(seen.sum()) for seen in self._seen]
        return [None if known is None else len(known) for known in self._different]

    def as_json(self, names: Sequence[str] | None) -> dict[str, Any]:
        """The summary as a dict, with the columns' names if they have some."""
        summary = {
            "dtype": self.feature.dtype,
            "length": self.feature.length,
            "missing": self.records - self.present,
            "shortest": self.shortest or 0,
            "longest": self.longest,
        }
        if self.feature.dtype == "bytes_list" or not self.values:
            return summary
        different = self.different()
        columns = []
        for index in range(len(self.zeros)):
            some = np.isfinite(self.min[index])
            column = {
                "name": names[index] if names else str(index),
                "min": float(self.min[index]) if some else None,
                "mean": float(self.mean[index]) if some else None,
                "max": float(self.max[index]) if some else None,
                "zeros": int(self.zeros[index]),
                "not_finite": int(self.not_finite[index]),
                "constant": bool(self.constant[index]),
            }
            if self.feature.dtype == "int64_list":
                column["different"] = different[index]
            if self.sizes is not None:
                column["size"] = int(self.sizes[index])
                column["outside"] = int(self.outside[index])
            columns.append(column)
        return summary | {"columns": columns}
