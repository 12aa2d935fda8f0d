"""Labels that are taken back, against the reference."""

import numpy as np
import tensorflow as tf

from recap_tf.data.late_labels import RectifyLabels


def test_golden_rectify_labels(golden):
    arrays = golden("data_rectify_labels")
    times = [name for name in arrays if name.endswith("_ms")]
    features = {name: tf.constant(arrays[name]) for name in times}
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
        batch = features, tf.constant(labels, tf.int64), tf.ones(labels.shape)
        _, rectified, _ = step(batch, tasks)
        for i, task in enumerate(tasks):
            np.testing.assert_array_equal(
                rectified[:, i : i + 1], arrays[f"{window}/{task}_out"]
            )
