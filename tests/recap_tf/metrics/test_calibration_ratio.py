import numpy as np
import pytest

from recap_tf.metrics.calibration_ratio import CalibrationRatio


@pytest.mark.parametrize(
    "labels, predictions, expected",
    [
        ([0, 1, 0, 1], [0.5] * 4, 1.0),
        ([0, 1, 0, 1], [1.0] * 4, 2.0),
        ([0, 0], [0.1, 0.2], np.nan),
        ([], [], np.nan),
    ],
    ids=["calibrated", "twice too high", "no positives", "no examples"],
)
def test_calibration_ratio(labels, predictions, expected):
    ratio = CalibrationRatio()
    ratio.update_state(labels, predictions)
    np.testing.assert_equal(ratio.result().numpy(), expected)


def test_calibration_ratio_weights_labels_and_predictions_alike():
    ratio = CalibrationRatio(tasks=1)
    ratio.update_state([[1], [0]], [[0.8], [0.4]], [[1.0], [3.0]])
    np.testing.assert_allclose(ratio.result(), [(0.8 + 1.2) / 1], rtol=1e-6)
