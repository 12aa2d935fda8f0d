"""Running counts per key, taken strictly before each row, as a live feed has them."""

import dataclasses
import json
import posixpath
from collections.abc import Iterable
from urllib.parse import quote

import numpy as np
import pyarrow as pa
import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.row_files import open_table, write_parquet
from recap_tf.core.values.canonical_text import canonical_codes, canonical_texts

SMOOTHING = 20.0
_ALL = "(all rows)"


@dataclasses.dataclass(frozen=True)
class HistorySettings:
    """The running counts of a log, as --history asks for them.

        key.past_impressions = rows of that key before this one
        key.past_LABEL       = how many of them had the label
        key.past_LABEL_rate  = (key.past_LABEL + s * rate) / (key.past_impressions + s)

    `before` means an earlier time: rows of one time do not see each other. `rate` is
    the label's rate over all earlier rows of any key, s is `SMOOTHING`.

    Args:
        time: the column by which the rows are sorted.
        keys: columns, or several joined with + ("user_id+video_id").
        labels: names of the labels that are counted.
    """

    time: str
    keys: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def columns(self) -> list[str]:
        """The columns that the rows must have."""
        return [self.time, *(c for key in self.keys for c in key.split("+"))]

    @property
    def features(self) -> list[str]:
        """Names of the counts, in the order of their columns."""
        names = []
        for key in self.keys:
            names.append(f"{key}.past_impressions")
            for label in self.labels:
                names += [f"{key}.past_{label}", f"{key}.past_{label}_rate"]
        return names


class RunningCounts:
    """Rows and positives per key so far; memory grows with the number of keys."""

    def __init__(self, labels: int):
        self._row_of = {}
        self._counts = np.zeros((1024, 1 + labels))
        # What the latest time added, hidden from other rows of that time.
        self._latest = np.zeros_like(self._counts)
        self.time = None

    def rows_of(self, keys: list[str]) -> np.ndarray:
        """The counters' row of each key; new keys get new rows."""
        row_of = self._row_of
        rows = np.array([row_of.setdefault(key, len(row_of)) for key in keys], np.int64)
        lacking = len(row_of) - len(self._counts)
        if lacking > 0:
            width = self._counts.shape[1]
            zeros = np.zeros((max(lacking, len(self._counts)), width))
            self._counts = np.concatenate([self._counts, zeros])
            self._latest = np.concatenate([self._latest, zeros])
        return rows

    def before(
        self, rows: np.ndarray, times: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Adds rows sorted by time; returns what was counted before each.

        Args:
            rows: (n,), of `rows_of`.
            times: (n,), ascending and not before the last call's.
            labels: (n, labels), 0 or 1.

        Returns:
            (n, 1 + labels): impressions, then positives of each label.
        """
        added = np.concatenate([np.ones((len(rows), 1)), labels], axis=1)
        order = np.argsort(rows, kind="stable")
        key, time = rows[order], times[order]
        sums = np.concatenate([np.zeros((1, added.shape[1])), added[order].cumsum(0)])
        new_key = np.r_[True, key[1:] != key[:-1]]
        new_time = new_key | np.r_[True, time[1:] != time[:-1]]
        position = np.arange(len(rows))
        first_of_key = np.maximum.accumulate(np.where(new_key, position, 0))
        first_of_time = np.maximum.accumulate(np.where(new_time, position, 0))
        counts = self._counts[key] + sums[first_of_time] - sums[first_of_key]
        if self.time is not None:
            same = time == self.time
            counts[same] -= self._latest[key[same]]
        result = np.empty_like(counts)
        result[order] = counts

        last = times[-1]
        if last != self.time:
            self._latest[:] = 0
        np.add.at(self._latest, rows[times == last], added[times == last])
        np.add.at(self._counts, rows, added)
        self.time = last
        return result

    def table(self) -> pa.Table:
        """Key, counts, and what the latest time added, one row per key."""
        rows = len(self._row_of)
        columns = {"key": pa.array(list(self._row_of), pa.string())}
        for name, counts in (("counted", self._counts), ("latest", self._latest)):
            for column in range(counts.shape[1]):
                columns[f"{name}.{column}"] = counts[:rows, column]
        return pa.table(columns)

    @classmethod
    def restored(cls, table: pa.Table, time: float) -> "RunningCounts":
        """The counters that `table` was written from."""
        names = table.column_names[1:]
        counts, latest = (
            np.stack([table[n].to_numpy() for n in names if n.startswith(part)], axis=1)
            for part in ("counted", "latest")
        )
        self = cls(counts.shape[1] - 1)
        # Counters of earlier days may hold 7.0 or True as texts of their own.
        rows = self.rows_of(_canonical_keys(table["key"].to_pylist()))
        np.add.at(self._counts, rows, counts)
        np.add.at(self._latest, rows, latest)
        self.time = time
        return self


class History:
    """The features of `HistorySettings` for rows that come in the order of time."""

    def __init__(self, settings: HistorySettings):
        self.settings = settings
        self._counts = {
            key: RunningCounts(len(settings.labels)) for key in (_ALL, *settings.keys)
        }

    @property
    def time(self) -> float | None:
        """The latest time counted so far."""
        return self._counts[_ALL].time

    def features(
        self, table: pa.Table, times: np.ndarray, labels: np.ndarray
    ) -> np.ndarray:
        """Counts the rows of `table`; returns (rows, settings.features) before them.

        Args:
            table: rows that hold the columns of the keys.
            times: (rows,), ascending and not before the last call's.
            labels: (rows, settings.labels), 0 or 1.
        """
        everyone = self._counts[_ALL]
        rows = np.repeat(everyone.rows_of([""]), len(times))
        before = everyone.before(rows, times, labels)
        rates = (before[:, 1:] + 1) / (before[:, :1] + 2)
        parts = []
        for key in self.settings.keys:
            counts = self._counts[key]
            codes, values = _joint_texts(table, key.split("+"))
            before = counts.before(counts.rows_of(values)[codes], times, labels)
            parts.append(before[:, :1])
            for label in range(labels.shape[1]):
                positives = before[:, label + 1 : label + 2]
                smoothed = positives + SMOOTHING * rates[:, label : label + 1]
                parts += [positives, smoothed / (before[:, :1] + SMOOTHING)]
        return np.concatenate(parts, axis=1)

    def save(self, folder: str) -> None:
        """Writes the counters to `folder`."""
        tf.io.gfile.makedirs(folder)
        for key, counts in self._counts.items():
            write_parquet(_path(folder, key), counts.table())
        state = json.dumps({"time": None if self.time is None else self.time.item()})
        files.write_text(posixpath.join(folder, "state.json"), state)


def latest_history(folders: Iterable[str], first_time: float) -> str | None:
    """The folder whose history ends last, but not after `first_time`; None if none.

    Args:
        folders: of `History.save`.
        first_time: of the rows that will be counted next.
    """
    ends = {folder: _end(folder) for folder in folders}
    ends = {f: end for f, end in ends.items() if end is not None and end <= first_time}
    return max(ends, key=ends.get) if ends else None


def read_history(settings: HistorySettings, folder: str) -> History:
    """Reads what `History.save` wrote, of the same settings."""
    history = History(settings)
    time = _end(folder)
    for key in history._counts:
        table = open_table(_path(folder, key)).read()
        history._counts[key] = RunningCounts.restored(table, time)
    return history


def _end(folder: str) -> float | None:
    with tf.io.gfile.GFile(posixpath.join(folder, "state.json")) as file:
        return json.load(file)["time"]


def _path(folder: str, key: str) -> str:
    return posixpath.join(folder, f"{quote(key, safe='')}.parquet")


def _canonical_keys(keys: list[str]) -> list[str]:
    """Keys of `_joint_texts`, each part of them as it is written today."""
    parts = [key.split("\x1f") for key in keys]
    flat = pa.array([part for key in parts for part in key], pa.string())
    texts = iter(canonical_texts(flat).to_pylist())
    return ["\x1f".join(next(texts) for _ in key) for key in parts]


def _joint_texts(table: pa.Table, columns: list[str]) -> tuple[np.ndarray, list[str]]:
    """Like `canonical_codes`, of several columns; a missing value is one more text."""
    joint = np.zeros(table.num_rows, np.int64)
    names = [""]
    for column in columns:
        codes, values = canonical_codes(table[column].combine_chunks())
        values = [*values, "\0"]
        pairs, joint = np.unique(
            joint * len(values) + codes % len(values), return_inverse=True
        )
        names = [
            f"{names[pair // len(values)]}\x1f{values[pair % len(values)]}"
            for pair in pairs.tolist()
        ]
    return joint, names
