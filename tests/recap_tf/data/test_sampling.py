"""Weights that undo a sampling, against the reference."""

import numpy as np

from recap_tf.data.sampling import sampling_weights


def test_golden_sampling_rate_weights(golden):
    arrays = golden("data_sampling_rate_weights")
    rates = zip(
        arrays["pos_downsampling_rate"], arrays["neg_downsampling_rate"], strict=True
    )
    rates = {f"task_{i}": rate for i, rate in enumerate(rates)}
    weights = sampling_weights(arrays["labels"], list(rates), rates)
    np.testing.assert_allclose(weights, arrays["weights"], rtol=1e-6)
