"""Parts of a validation set."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.evaluation.slices import Slice


def _mask(features, **settings):
    one = Slice(name="s", feature="f", **settings)
    one.check(tf.TensorSpec([None, *features.shape[1:]], features.dtype))
    return one.mask({"f": features}, "f").numpy().tolist()


@pytest.mark.parametrize(
    "settings, expected",
    [
        ({"equals": 3, "column": 1}, [True, False, True]),
        ({"in_range": (2, 9)}, [False, True, True]),
        ({"in_range": (2, 8)}, [False, True, False]),
        ({"in_range": (None, 2)}, [True, False, False]),
        ({"in_range": (1.5, None)}, [False, True, True]),
    ],
)
def test_integers(settings, expected):
    assert (
        _mask(tf.constant([[1, 3], [2, 4], [8, 3]], tf.int64), **settings) == expected
    )


def test_a_bound_rounds_as_the_feature_does():
    values = tf.constant([[0.1], [0.7], [np.nan]])
    assert _mask(values, in_range=(0.7, None)) == [False, True, False]
    assert _mask(values, in_range=(None, 0.7)) == [True, False, False]
    assert _mask(values, equals=0.1) == [True, False, False]


def test_ids_are_compared_to_the_last_bit():
    ids = tf.constant([[2**60], [2**60 + 1]], tf.int64)
    assert _mask(ids, equals=2**60 + 1) == [False, True]
    assert _mask(ids, in_range=(None, 2**60 + 1)) == [True, False]
    assert _mask(tf.constant([[True], [False]]), equals=1) == [True, False]


def test_bytes_and_single_columns():
    assert _mask(tf.constant([["de"], ["fr"]]), equals="fr") == [False, True]
    assert _mask(tf.constant([5, 6], tf.int64), equals=6) == [False, True]


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"name": "all", "equals": 1}, "Slice.name must not be 'all'"),
        ({}, "'s' needs exactly one of equals and in_range. Received: equals=None"),
        ({"equals": 1, "in_range": (0, 1)}, "needs exactly one of equals and in_range"),
        ({"in_range": (float("nan"), 1)}, "Slice.in_range of slice 's' must be .low"),
        ({"in_range": (2, 2)}, "low < high, None for no bound. Received: .2, 2."),
    ],
)
def test_bad_slices(settings, message):
    with pytest.raises(ValueError, match=message):
        Slice(**({"name": "s", "feature": "f"} | settings))


@pytest.mark.parametrize(
    "dtype, settings, message",
    [
        (
            "int64",
            {"equals": 1, "column": 2},
            r"column of slice 's' must be in \[0, 2\)",
        ),
        (
            "int64",
            {"equals": "a"},
            "equals of slice 's' must be a number, as 'f' holds",
        ),
        ("int64", {"equals": 1.5}, "must be a whole number, as 'f' holds int64. Rec"),
        ("string", {"equals": 1}, "must be a string, as 'f' holds bytes. Received: 1"),
        ("string", {"in_range": (0, 1)}, "in_range of slice 's' needs numbers"),
    ],
)
def test_slices_that_do_not_fit_the_feature(dtype, settings, message):
    with pytest.raises(ValueError, match=message):
        Slice(name="s", feature="f", **settings).check(tf.TensorSpec([None, 2], dtype))
