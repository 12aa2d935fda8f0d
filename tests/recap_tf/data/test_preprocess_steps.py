"""The order of the preprocessing steps, and what each refuses."""

import pytest
import tensorflow as tf

from recap_tf.data import preprocess_steps
from recap_tf.data.downsampling import DownsampleNegatives
from recap_tf.data.feature_steps import DownCast, ExtractFeatures, TruncateAndSlice
from recap_tf.data.late_labels import RectifyLabels
from recap_tf.data.mantissa_masking import mask_features


def _batch():
    features = {name: tf.constant(value) for name, value in FEATURES.items()}
    return features, tf.constant([[1]], tf.int64), tf.ones([1, 1])


def test_steps_run_in_their_own_order():
    steps = [
        ExtractFeatures(columns={}),
        TruncateAndSlice(),
        DownsampleNegatives(batch_multiplier=2, engagements=[]),
    ]
    assert preprocess_steps.in_order(steps) == steps[::-1]
    with pytest.raises(ValueError, match="TruncateAndSlice more than once"):
        preprocess_steps.in_order([TruncateAndSlice(), TruncateAndSlice()])


FEATURES = {"continuous": [[1.0, 2.0]], "binary": [[1]], "at": [[5]]}


@pytest.mark.parametrize(
    "make, message",
    [
        (
            lambda batch: TruncateAndSlice(continuous_truncation=3)(batch, ["a"]),
            "continuous_truncation must be between 1 and the 2 columns.*Received: 3",
        ),
        (
            lambda batch: TruncateAndSlice(binary_mask="gone.npy")(batch, ["a"]),
            "TruncateAndSlice.binary_mask = 'gone.npy' does not exist",
        ),
        (
            lambda batch: DownCast(features={"continuos": "bool"})(batch, ["a"]),
            "DownCast.features names the feature 'continuos', which is not read",
        ),
        (
            lambda batch: DownCast(features={"binary": "int3"}),
            r"DownCast.features\['binary'\] must be one of .*Received: 'int3'",
        ),
        (
            lambda batch: ExtractFeatures(columns={"x": ("continuous", 2)})(
                batch, ["a"]
            ),
            "`continuous` has 2 columns. Received: column 2",
        ),
        (
            lambda batch: RectifyLabels(
                served="at", impressed="at", engaged={"b": "at"}
            )(batch, ["a"]),
            "RectifyLabels.engaged names the task 'b'",
        ),
        (
            lambda batch: RectifyLabels(
                served="at", impressed="at", engaged={}, window_hours=0.0
            ),
            "RectifyLabels.window_hours must be above 0. Received: 0.0",
        ),
        (
            lambda batch: RectifyLabels(
                served="continuous", impressed="at", engaged={}
            )(batch, ["a"]),
            r"'continuous' for a time in ms, one int64. Received: float32 of .*1, 2",
        ),
        (
            lambda batch: mask_features(batch[0], {"binary": 3}),
            r"masked_mantissa_bits\['binary'\] must be a feature of floats.*int32",
        ),
        (
            lambda batch: mask_features(batch[0], {"x": 3}),
            "masked_mantissa_bits names the feature 'x', which is not read",
        ),
        (
            lambda batch: DownsampleNegatives(batch_multiplier=2, engagements=["b"])(
                batch, ["a"]
            ),
            "DownsampleNegatives.engagements names the task 'b'",
        ),
        (
            lambda batch: DownsampleNegatives(batch_multiplier=0, engagements=[]),
            "DownsampleNegatives.batch_multiplier must be at least 1. Received: 0",
        ),
    ],
    ids=[
        "truncation",
        "no mask",
        "unknown feature",
        "unknown type",
        "column",
        "rectify task",
        "window",
        "time",
        "masked integers",
        "masked nothing",
        "downsample task",
        "multiplier",
    ],
)
def test_bad_settings(make, message):
    with pytest.raises(ValueError, match=message):
        make(_batch())
