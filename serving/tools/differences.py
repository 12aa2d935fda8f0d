"""How far two models' answers to the same requests are apart."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np


@dataclasses.dataclass
class OutputDifference:
    """Differences of one output, added up over requests.

    Args:
        values: how many values were compared.
        total: sum of their absolute differences; of numbers alone.
        largest: absolute difference; infinite if one side is not a number, or is of
            another shape or type.
        worst: (request, place in the array, left, right) of it.
        unequal: how many values differ at all.
        ranked: rows, in requests of more than one, whose rank was compared; each
            column is a ranking of its own.
        moved: how many of these have another rank.
        farthest: the most ranks that a row moved by.
        rankings: how many were compared, one per request and column.
        other_first: how many of these have another row on top.
    """

    values: int = 0
    total: float = 0.0
    largest: float = 0.0
    worst: tuple[int, list[int], Any, Any] | None = None
    unequal: int = 0
    ranked: int = 0
    moved: int = 0
    farthest: int = 0
    rankings: int = 0
    other_first: int = 0

    @property
    def mean(self) -> float:
        return self.total / self.values if self.values else 0.0

    @property
    def moved_share(self) -> float:
        return self.moved / self.ranked if self.ranked else 0.0

    def add(self, number: int, left: np.ndarray, right: np.ndarray) -> None:
        """Compares the answers to request `number`."""
        is_number = all(a.dtype.kind not in "OSU" for a in (left, right))
        is_text = all(a.dtype.kind in "OSU" for a in (left, right))
        if left.shape != right.shape or not (is_number or is_text):
            self.values += left.size
            self.unequal += left.size
            self._note(number, float("inf"), [], _shown(left), _shown(right))
            return
        if is_text:
            gap = np.where(left == right, 0.0, np.inf)
        else:
            left, right = left.astype(np.float64), right.astype(np.float64)
            gap = _gap(left, right)
        self.values += gap.size
        self.unequal += int((gap > 0).sum())
        if not gap.size:
            return
        self.total += float(gap.sum())
        at = np.unravel_index(gap.argmax(), gap.shape)
        place = [int(i) for i in at]
        self._note(number, float(gap[at]), place, _value(left[at]), _value(right[at]))
        if is_number and gap.ndim in (1, 2) and len(gap) > 1:
            for scores, others in zip(_columns(left), _columns(right), strict=True):
                self._compare_ranks(scores, others)

    def _note(self, number: int, gap: float, place: list[int], left, right) -> None:
        if gap > self.largest or self.worst is None:
            self.largest = gap
            self.worst = (number, place, left, right)

    def _compare_ranks(self, left: np.ndarray, right: np.ndarray) -> None:
        left_ranks, right_ranks = ranks(left), ranks(right)
        moves = np.abs(left_ranks - right_ranks)
        self.ranked += len(moves)
        self.moved += int((moves > 0).sum())
        self.farthest = max(self.farthest, int(moves.max()))
        self.rankings += 1
        self.other_first += not np.array_equal(left_ranks == 0, right_ranks == 0)


def ranks(scores: np.ndarray) -> np.ndarray:
    """The rank of each row, how many score higher: (rows,) -> (rows,).

    Rows of the same score share a rank: which of them comes first says nothing.
    """
    ascending = np.sort(scores)
    return len(scores) - np.searchsorted(ascending, scores, side="right")


class Differences:
    """Differences of all outputs, and of what could not be compared."""

    def __init__(self):
        self.outputs: dict[str, OutputDifference] = {}
        self.compared = 0
        self.failed_alike = 0
        self.failures: list[str] = []
        """A line for each request that one side failed, or both in different ways."""

    def add(
        self,
        number: int,
        left: Mapping[str, np.ndarray],
        right: Mapping[str, np.ndarray],
    ) -> None:
        """Compares the answers to request `number`."""
        if left.keys() != right.keys():
            self.failures.append(
                f"request {number}: outputs {sorted(left)} against {sorted(right)}"
            )
        for name in sorted(left.keys() & right.keys()):
            difference = self.outputs.setdefault(name, OutputDifference())
            difference.add(number, left[name], right[name])
        self.compared += 1


def _gap(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        gap = np.abs(left - right)
    # The same infinity twice, or NaN twice, is the same answer; NaN once is not.
    gap = np.where((left == right) | (np.isnan(left) & np.isnan(right)), 0.0, gap)
    return np.where(np.isnan(gap), np.inf, gap)


def _columns(array: np.ndarray) -> np.ndarray:
    return array.T if array.ndim == 2 else array[None]


def _value(value) -> Any:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return str(value) if isinstance(value, str) else float(value)


def _shown(array: np.ndarray) -> str:
    kind = "string" if array.dtype.kind in "OSU" else array.dtype.name
    return f"{kind}{list(array.shape)}"
