"""Visits hold every pair of partitions once, with few swaps."""

import itertools

import numpy as np
import pytest

from twhin_tf.partitions.partition_order import visits


@pytest.mark.parametrize(
    "partitions, buffer", [(2, 2), (3, 2), (8, 2), (4, 4), (5, 4), (8, 4), (16, 4)]
)
def test_visits_hold_every_pair_once(partitions, buffer):
    plan = visits(partitions, range(buffer), np.random.default_rng(0))
    pairs = [pair for visit in plan for pair in visit.pairs]
    every = [(a, b) for a in range(partitions) for b in range(a, partitions)]
    assert sorted(pairs) == every
    for visit in plan:
        assert all(set(pair) <= set(visit.held) for pair in visit.pairs)


def test_two_visits_differ_by_one_swap_and_there_are_few():
    plan = visits(16, range(4), np.random.default_rng(0))
    for before, after in itertools.pairwise(plan):
        places = zip(before.held, after.held, strict=True)
        assert sum(a != b for a, b in places) == 1
    least = (16 * 15 / 2 - 4 * 3 / 2) / 3
    assert least <= len(plan) - 1 <= 1.3 * least


def test_visits_begin_with_what_is_held():
    first = visits(5, [4, 1], np.random.default_rng(0))[0]
    assert first.held == (4, 1)
    assert first.pairs == ((1, 1), (1, 4), (4, 4))
