"""A loss that is not finite ends training."""

import numpy as np
import pytest

from recap_tf.core.command import UserError
from recap_tf.core.training.nan_stop import check_finite

NAMES = ["loss", "loss/a", "loss/b"]


def test_finite_losses_pass():
    check_finite(3, NAMES, np.array([1.5, 0.0, -2.0], np.float32))


@pytest.mark.parametrize(
    "losses, message",
    [
        ([np.nan, 1, np.nan], r"^Step 3: loss/b is nan\. No checkpoint was made of it"),
        ([np.inf, np.inf, np.nan], r"^Step 3: loss/a, loss/b is inf\. No checkpoint"),
        ([np.nan, 1, 1], r"^Step 3: loss is nan\. No checkpoint was made of it"),
    ],
    ids=["one task", "two tasks", "only the sum"],
)
def test_others_end_training_and_are_named(losses, message):
    with pytest.raises(UserError, match=message):
        check_finite(3, NAMES, np.array(losses, np.float32))
