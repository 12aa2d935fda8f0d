"""Streaming statistics of numeric columns: one pass, any number of rows."""

import dataclasses

import numpy as np


class Moments:
    """Mean and standard deviation per column, in Welford's form (Chan et al. 1979)."""

    def __init__(self, columns: int):
        self.count = np.zeros(columns)
        self.mean = np.zeros(columns)
        self._squares = np.zeros(columns)

    @property
    def std(self) -> np.ndarray:
        """Population standard deviation; 0 where nothing was counted."""
        return np.sqrt(self._squares / np.maximum(self.count, 1))

    def add(self, values: np.ndarray, there: np.ndarray) -> None:
        """Adds `values` (rows, columns) where `there` (rows, columns) is true."""
        count = there.sum(axis=0)
        values = np.where(there, values, 0.0)
        mean = values.sum(axis=0) / np.maximum(count, 1)
        squares = (np.where(there, values - mean, 0.0) ** 2).sum(axis=0)
        total = np.maximum(self.count + count, 1)
        delta = mean - self.mean
        self._squares += squares + delta**2 * self.count * count / total
        self.mean += delta * count / total
        self.count += count


@dataclasses.dataclass(frozen=True, kw_only=True)
class NumericColumn:
    """A column of `continuous` and its statistics in the training rows.

    Args:
        missing: rows without a value; the records hold 0 there.
        zeros: rows whose value is 0.
        infinite: rows whose value is infinite as a float32.
        min: least finite value; 0 if there is none, and so for the next three.
        max: greatest finite value.
        mean: of the finite values.
        std: of the finite values, population.
        log_mean: mean of sign(x) log(1 + |x|) over what the records hold, so with 0
            for a missing or infinite value, as the preprocessors read it.
        log_std: standard deviation of the same.
    """

    name: str
    missing: int
    zeros: int
    infinite: int
    min: float
    max: float
    mean: float
    std: float
    log_mean: float
    log_std: float


class NumericStatistics:
    """Gathers `NumericColumn` for each of `names`."""

    def __init__(self, names: list[str]):
        self.names = names
        self._missing = np.zeros(len(names), np.int64)
        self._zeros = np.zeros(len(names), np.int64)
        self._infinite = np.zeros(len(names), np.int64)
        self._min = np.full(len(names), np.inf)
        self._max = np.full(len(names), -np.inf)
        self._plain = Moments(len(names))
        self._log = Moments(len(names))

    def add(self, values: np.ndarray) -> None:
        """Counts float32 `values` (rows, names), NaN where one is missing."""
        values = values.astype(np.float64)
        missing, finite = np.isnan(values), np.isfinite(values)
        self._missing += missing.sum(axis=0)
        self._zeros += (values == 0).sum(axis=0)
        self._infinite += np.isinf(values).sum(axis=0)
        low = np.where(finite, values, np.inf).min(axis=0, initial=np.inf)
        high = np.where(finite, values, -np.inf).max(axis=0, initial=-np.inf)
        self._min, self._max = np.minimum(self._min, low), np.maximum(self._max, high)
        self._plain.add(values, finite)
        stored = np.where(finite, values, 0.0)
        logs = np.sign(stored) * np.log1p(np.abs(stored))
        self._log.add(logs, np.ones_like(finite))

    def columns(self) -> list[NumericColumn]:
        """The statistics so far."""
        some = self._plain.count > 0
        arrays = {
            "min": np.where(some, self._min, 0.0),
            "max": np.where(some, self._max, 0.0),
            "mean": self._plain.mean,
            "std": self._plain.std,
            "log_mean": self._log.mean,
            "log_std": self._log.std,
        }
        return [
            NumericColumn(
                name=name,
                missing=int(self._missing[index]),
                zeros=int(self._zeros[index]),
                infinite=int(self._infinite[index]),
                **{key: float(array[index]) for key, array in arrays.items()},
            )
            for index, name in enumerate(self.names)
        ]
