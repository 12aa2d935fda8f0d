"""In which order pairs of partitions are in memory together, with few swaps."""

import dataclasses
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Visit:
    """The partitions in memory between two swaps, and the pairs trained on.

    Args:
        held: the partition in each place of the buffer.
        pairs: of partitions held, (lower, higher) or twice the same, whose edges have
            not been trained on in this pass; sorted.
    """

    held: tuple[int, ...]
    pairs: tuple[tuple[int, int], ...]


def visits(
    partitions: int, start: Sequence[int], rng: np.random.Generator
) -> list[Visit]:
    """Plans visits that hold every pair of partitions once; one swap between two.

    The last place of the buffer goes through all partitions that still have pairs to
    meet while the others stay; then those, which have met all, make room for new ones.
    BETA, the order of Marius (Mohoney et al. 2021, arXiv:2101.08358, section 4.1).
    Close to the least number of swaps, which for a buffer of c is

        (partitions * (partitions - 1) / 2 - c * (c - 1) / 2) / (c - 1)

    >>> plan = visits(4, start=[0, 1], rng=np.random.default_rng(0))
    >>> plan[0], len(plan)
    (Visit(held=(0, 1), pairs=((0, 0), (0, 1), (1, 1))), 6)

    Args:
        partitions: their number, of each node type.
        start: what the buffer holds before the first visit, at least 2 of them unless
            it is all there are.
        rng: draws the order of the others.
    """
    held, met, plan = list(start), set(), []

    def visit() -> None:
        pairs = {(min(a, b), max(a, b)) for a in held for b in held} - met
        met.update(pairs)
        plan.append(Visit(tuple(held), tuple(sorted(pairs))))

    def swap(place: int, partition: int) -> None:
        held[place] = partition
        visit()

    visit()
    others = [number for number in range(partitions) if number not in start]
    unfinished = [held[-1], *rng.permutation(others).tolist()]
    staying = len(held) - 1
    while len(unfinished) > 1:
        for partition in unfinished[1:]:
            swap(staying, partition)
        *pending, last = unfinished
        for place, partition in zip(range(staying), pending, strict=False):
            swap(place, partition)
        unfinished = [last, *pending[staying:]]
    return plan
