"""Steps that change features alone, in training and in serving."""

import dataclasses
from collections.abc import Mapping

import gin
import numpy as np
import tensorflow as tf

from recap_tf.core.checks import check_choice
from recap_tf.data.preprocess_steps import Step, check_features

_DTYPES = ("bfloat16", "bool", "float16", "uint8")


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncateAndSlice(Step):
    """Keeps the first columns of continuous and binary, then those of a mask.

    >>> from recap_tf.data.feature_steps import TruncateAndSlice
    >>> step = TruncateAndSlice(continuous_truncation=2)
    >>> step.serve({"continuous": tf.constant([[5.0, 6.0, 7.0]])})["continuous"].numpy()
    array([[5., 6.]], dtype=float32)

    Args:
        continuous_truncation, binary_truncation: how many first columns stay; all if
            none.
        continuous_mask, binary_mask: path of a .npy array of that many entries;
            columns with a non-zero entry are kept.
    """

    continuous_truncation: int | None = None
    binary_truncation: int | None = None
    continuous_mask: str | None = None
    binary_mask: str | None = None
    order = 2

    def serve(self, features):
        features = dict(features)
        for name in ("continuous", "binary"):
            if name in features:
                features[name] = self._keep(name, features[name])
        return features

    def _keep(self, name: str, x: tf.Tensor) -> tf.Tensor:
        columns = getattr(self, f"{name}_truncation")
        if columns is not None:
            if not 1 <= columns <= x.shape[-1]:
                raise ValueError(
                    f"TruncateAndSlice.{name}_truncation must be between 1 and the "
                    f"{x.shape[-1]} columns of `{name}`. Received: {columns}"
                )
            x = x[:, :columns]
        path = getattr(self, f"{name}_mask")
        if path is not None:
            x = tf.gather(x, _read_mask(f"{name}_mask", path, x.shape[-1]), axis=1)
        return x


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class DownCast(Step):
    """Casts features to smaller types.

    >>> from recap_tf.data.feature_steps import DownCast
    >>> step = DownCast(features={"clicked": "bool"})
    >>> step.serve({"clicked": tf.constant([[1.0, 0.0]])})["clicked"].numpy()
    array([[ True, False]])

    Args:
        features: feature -> "bfloat16", "bool", "float16" or "uint8".
    """

    features: Mapping[str, str]
    order = 3

    def __post_init__(self):
        for name, dtype in self.features.items():
            check_choice(f"DownCast.features[{name!r}]", dtype, _DTYPES)

    def serve(self, features):
        check_features("DownCast.features", self.features, features)
        cast = {n: tf.cast(features[n], dtype) for n, dtype in self.features.items()}
        return features | cast


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractFeatures(Step):
    """Makes single columns of dense features available under names of their own.

    >>> from recap_tf.data.feature_steps import ExtractFeatures
    >>> step = ExtractFeatures(columns={"age": ("continuous", 1)})
    >>> step.serve({"continuous": tf.constant([[5.0, 30.0]])})["age"].numpy()
    array([30.], dtype=float32)

    Args:
        columns: new feature -> (feature, column). The new one is (batch,).
    """

    columns: Mapping[str, tuple[str, int]]
    order = 5

    def serve(self, features):
        extracted = {}
        for new, (name, column) in self.columns.items():
            check_features(f"ExtractFeatures.columns[{new!r}]", [name], features)
            if not 0 <= column < features[name].shape[-1]:
                raise ValueError(
                    f"ExtractFeatures.columns[{new!r}]: `{name}` has "
                    f"{features[name].shape[-1]} columns. Received: column {column}"
                )
            extracted[new] = features[name][:, column]
        return features | extracted


def _read_mask(setting: str, path: str, width: int) -> np.ndarray:
    if not tf.io.gfile.exists(path):
        raise ValueError(f"TruncateAndSlice.{setting} = {path!r} does not exist.")
    with tf.io.gfile.GFile(path, "rb") as file:
        mask = np.load(file)
    if mask.shape != (width,):
        raise ValueError(
            f"TruncateAndSlice.{setting} = {path!r} must hold one entry for each of "
            f"{width} columns. Received: shape {mask.shape}"
        )
    return np.flatnonzero(mask)
