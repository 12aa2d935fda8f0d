"""Masking of low bits, against the reference."""

import numpy as np
import tensorflow as tf

from recap_tf.data import mantissa_masking


def test_golden_mask_mantissa(golden):
    arrays = golden("data_mask_mantissa")
    for name in set(arrays) - {"x"}:
        masked = mantissa_masking.mask_mantissa(
            tf.constant(arrays["x"]), int(name[12:])
        )
        np.testing.assert_array_equal(
            masked.numpy().view(np.int32), arrays[name].view(np.int32), err_msg=name
        )
