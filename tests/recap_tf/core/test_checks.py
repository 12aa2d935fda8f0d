"""Range and choice checks: what passes, and the words of a refusal."""

import pytest

from recap_tf.core.checks import check_choice, check_range
from recap_tf.core.command import UserError


@pytest.mark.parametrize(
    "value, bounds",
    [
        (1, {"at_least": 1}),
        (0.0, {"at_least": 0, "below": 1}),
        (5, {"above": 4.9, "at_most": 5}),
        (None, {"at_least": 1, "none": "all"}),
    ],
)
def test_values_within_the_bounds_pass(value, bounds):
    check_range("A.b", value, **bounds)


@pytest.mark.parametrize(
    "value, bounds, message",
    [
        (0, {"at_least": 1}, "A.b must be at least 1. Received: 0"),
        (0, {"above": 0}, "A.b must be above 0. Received: 0"),
        (3, {"at_most": 2}, "A.b must be at most 2. Received: 3"),
        (2, {"below": 2}, "A.b must be below 2. Received: 2"),
        (1.0, {"at_least": 0, "below": 1}, "A.b must be in [0, 1). Received: 1.0"),
        (0.0, {"above": 0, "at_most": 1}, "A.b must be in (0, 1]. Received: 0.0"),
        (
            0,
            {"at_least": 1, "none": "no limit"},
            "A.b must be at least 1, or None for no limit. Received: 0",
        ),
        (float("nan"), {"at_least": 0}, "A.b must be at least 0. Received: nan"),
        (None, {"at_least": 0}, "A.b must be at least 0. Received: None"),
    ],
)
def test_a_refusal_names_the_setting_the_bounds_and_the_value(value, bounds, message):
    with pytest.raises(ValueError) as refusal:
        check_range("A.b", value, **bounds)
    assert str(refusal.value) == message


def test_a_flag_is_refused_as_a_user_s_error():
    with pytest.raises(UserError, match=r"--shards must be at least 1\. Received: 0"):
        check_range("--shards", 0, at_least=1, error=UserError)


def test_a_choice_that_is_not_known():
    check_choice("A.b", "x", ["x", "y"])
    with pytest.raises(
        ValueError, match=r"A\.b must be one of \['x', 'y'\]\. Received: 'z'"
    ):
        check_choice("A.b", "z", ["x", "y"])
