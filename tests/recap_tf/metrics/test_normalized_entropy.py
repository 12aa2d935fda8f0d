import math

import pytest

from recap_tf.metrics.normalized_entropy import NormalizedEntropy


def test_normalized_entropy_by_hand():
    constant = -math.log(0.25) / 4 - math.log(0.75) * 3 / 4
    entropy_ratio = NormalizedEntropy()
    entropy_ratio.update_state([1, 0, 0, 0], [0.5] * 4)
    assert float(entropy_ratio.result()) == pytest.approx(math.log(2) / constant)
