import numpy as np
import pytest

from recap_tf.metrics.nrce import NRCE
from recap_tf.metrics.rce import RCE


@pytest.mark.parametrize("factor", [1.0, 0.25, 1e-3])
def test_nrce_does_not_see_the_level_of_the_predictions(factor):
    predictions = np.array([0.4, 0.2, 0.1, 0.3])
    labels = [1, 0, 0, 0]
    nrce, rce = NRCE(), RCE()
    nrce.update_state(labels, factor * predictions)
    rce.update_state(labels, predictions)  # their mean is the mean label
    assert float(nrce.result()) == pytest.approx(float(rce.result()), abs=1e-3)
