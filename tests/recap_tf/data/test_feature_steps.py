"""Steps on features alone, against the reference and by hand."""

import numpy as np
import pytest
import tensorflow as tf

from recap_tf.data.feature_steps import DownCast, ExtractFeatures, TruncateAndSlice


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


def test_a_mask_of_another_length(tmp_path):
    np.save(tmp_path / "mask.npy", np.ones(3))
    step = TruncateAndSlice(continuous_mask=str(tmp_path / "mask.npy"))
    with pytest.raises(ValueError, match=r"one entry for each of 2 columns.*3"):
        step.serve({"continuous": tf.constant([[1.0, 2.0]])})
