"""The preprocessing steps, against the reference and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data import preprocess_steps
from recap_tf.data.preprocess_steps import (
    DownCast,
    DownsampleNegatives,
    ExtractFeatures,
    RectifyLabels,
    TruncateAndSlice,
)
from recap_tf.data.sampling import sampling_weights


def _batch(features=None, labels=((0,), (1,)), weights=None):
    labels = tf.constant(labels, tf.int64)
    weights = tf.ones(labels.shape) if weights is None else tf.constant(weights)
    features = {name: tf.constant(value) for name, value in (features or {}).items()}
    return features, labels, weights


def test_golden_mask_mantissa(golden):
    arrays = golden("data_mask_mantissa")
    for name in set(arrays) - {"x"}:
        masked = preprocess_steps.mask_mantissa(
            tf.constant(arrays["x"]), int(name[12:])
        )
        np.testing.assert_array_equal(
            masked.numpy().view(np.int32), arrays[name].view(np.int32), err_msg=name
        )


def test_golden_sampling_rate_weights(golden):
    arrays = golden("data_sampling_rate_weights")
    rates = zip(
        arrays["pos_downsampling_rate"], arrays["neg_downsampling_rate"], strict=True
    )
    rates = {f"task_{i}": rate for i, rate in enumerate(rates)}
    weights = sampling_weights(arrays["labels"], list(rates), rates)
    np.testing.assert_allclose(weights, arrays["weights"], rtol=1e-6)


def test_golden_downsample_negatives(golden):
    arrays = golden("data_downsample_negatives")
    cases = sorted({name.split("/")[0] for name in arrays})
    assert len(cases) > 1
    for case in cases:
        labels = arrays[f"{case}/in/labels"]
        tasks = [f"task_{i}" for i in range(labels.shape[1])]
        step = DownsampleNegatives(
            batch_multiplier=int(arrays[f"{case}/batch_multiplier"]),
            engagements=[tasks[i] for i in arrays[f"{case}/engagement_label_columns"]],
        )
        batch = _batch(
            {"continuous": arrays[f"{case}/in/continuous"]},
            labels,
            arrays.get(f"{case}/in/weights"),
        )
        features, kept, weights = step(batch, tasks)
        np.testing.assert_array_equal(
            features["continuous"], arrays[f"{case}/out/continuous"], err_msg=case
        )
        np.testing.assert_array_equal(kept, arrays[f"{case}/out/labels"])
        np.testing.assert_allclose(weights, arrays[f"{case}/out/weights"], rtol=1e-6)


def test_downsampling_to_a_batch_of_one():
    step = DownsampleNegatives(batch_multiplier=2, engagements=["like"])
    features, labels, weights = step(_batch({"x": [[1], [2]]}), ["like"])
    assert (features["x"], labels, weights) == ([[2]], [[1]], [[1.0]])


def test_downsampling_keeps_the_mean_of_every_task():
    rng = np.random.default_rng(1)
    labels = (rng.random((64_000, 2)) < [0.05, 0.2]).astype(int)
    labels[:, 1] |= labels[:, 0] & (rng.random(64_000) < 0.5)
    step = DownsampleNegatives(batch_multiplier=10, engagements=["like"])
    kept, weights = [], []
    for part in np.split(labels, 100):
        _, one, weight = step(_batch(labels=part), ["like", "reply"])
        assert one.shape == (64, 2)
        kept.append(one)
        weights.append(weight)
    weighted = np.sum(np.concatenate(kept) * np.concatenate(weights), axis=0)
    means = weighted / np.sum(np.concatenate(weights), axis=0)
    # Of the listed task exactly; of another one as far as chance allows.
    assert means[0] == pytest.approx(labels[:, 0].mean(), rel=1e-5)
    assert means[1] == pytest.approx(labels[:, 1].mean(), rel=0.1)


def test_surplus_positives_are_told(capfd):
    step = DownsampleNegatives(batch_multiplier=2, engagements=["like"])
    step(_batch(labels=[[1], [1], [1], [0]]), ["like"])
    assert "3 positives for 2 places" in capfd.readouterr().err


def test_golden_rectify_labels(golden):
    arrays = golden("data_rectify_labels")
    features = {name: arrays[name] for name in arrays if name.endswith("_ms")}
    tasks = ["label_a", "label_b"]
    labels = np.concatenate([arrays[task] for task in tasks], axis=1)
    windows = {name.split("/")[0] for name in arrays if "/" in name}
    assert len(windows) > 1
    for window in windows:
        step = RectifyLabels(
            served="served_ms",
            impressed="impressed_ms",
            engaged={"label_a": "engaged_a_ms", "label_b": "engaged_b_ms"},
            window_hours=float(window.removeprefix("window_").removesuffix("h")),
        )
        _, rectified, _ = step(_batch(features, labels), tasks)
        for i, task in enumerate(tasks):
            np.testing.assert_array_equal(
                rectified[:, i : i + 1], arrays[f"{window}/{task}_out"]
            )


def test_golden_truncate_slice_extract_downcast(golden, tmp_path):
    arrays = golden("data_truncate_slice_extract_downcast")
    dense = {name: arrays[name] for name in ("continuous", "binary", "discrete")}
    sizes = {
        f"{name}_truncation": int(arrays[f"{name}_truncation"])
        for name in ("continuous", "binary")
    }
    truncated = TruncateAndSlice(**sizes).serve(dense)
    masks = {}
    for name in ("continuous", "binary"):
        masks[f"{name}_mask"] = str(tmp_path / f"{name}.npy")
        np.save(masks[f"{name}_mask"], arrays[f"{name}_mask"])
    sliced = TruncateAndSlice(**sizes, **masks).serve(dense)
    for name in ("continuous", "binary"):
        np.testing.assert_array_equal(truncated[name], arrays[f"truncated/{name}"])
        np.testing.assert_array_equal(sliced[name], arrays[f"truncated_sliced/{name}"])
    for name in arrays:
        if name.startswith("extracted/"):
            feature, column = name.removeprefix("extracted/").split("_column_")
            step = ExtractFeatures(columns={"new": (feature, int(column))})
            np.testing.assert_array_equal(step.serve(dense)["new"], arrays[name])
    cast = DownCast(features={"continuous": "bfloat16", "binary": "bool"}).serve(
        {name: tf.constant(value) for name, value in dense.items()}
    )
    np.testing.assert_array_equal(
        tf.cast(cast["continuous"], tf.float32),
        arrays["downcast/continuous_bfloat16_as_float32"],
    )
    np.testing.assert_array_equal(cast["binary"], arrays["downcast/binary_bool"])


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
            lambda batch: preprocess_steps.mask_features(batch[0], {"binary": 3}),
            r"masked_mantissa_bits\['binary'\] must be a feature of floats.*int32",
        ),
        (
            lambda batch: preprocess_steps.mask_features(batch[0], {"x": 3}),
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
            "batch_multiplier must be at least 1. Received: 0",
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
        make(_batch(FEATURES, [[1]]))


def test_a_mask_of_another_length(tmp_path):
    np.save(tmp_path / "mask.npy", np.ones(3))
    step = TruncateAndSlice(continuous_mask=str(tmp_path / "mask.npy"))
    with pytest.raises(ValueError, match=r"one entry for each of 2 columns.*3"):
        step(_batch(FEATURES, [[1]]), ["a"])
