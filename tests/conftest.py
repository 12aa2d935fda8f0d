"""What every test needs: the golden numbers and a quiet, repeatable TensorFlow."""

import os
import pathlib

import recap_tf  # noqa: F401  (sets TF_USE_LEGACY_KERAS before TensorFlow loads)

import numpy as np
import pytest
import tensorflow as tf

GOLDEN = pathlib.Path(
    os.environ.get("RECAP_GOLDEN_DIR") or pathlib.Path(__file__).parent / "golden"
)


@pytest.fixture
def golden():
    """golden("mlp") -> the arrays of mlp.npz; golden.path(file) -> a file beside them."""

    def load(name: str) -> dict[str, np.ndarray]:
        with np.load(GOLDEN / f"{name}.npz") as arrays:
            return dict(arrays)

    load.path = lambda file: str(GOLDEN / file)
    return load


@pytest.fixture(autouse=True)
def fixed_seed():
    tf.keras.utils.set_random_seed(17)
