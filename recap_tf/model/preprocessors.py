"""The preprocessors: raw continuous and binary columns -> one dense vector.

Exactly one of the four stands at the entrance of a ranking model. All take
{"continuous": (batch, C), "binary": (batch, B), optional} and give (batch, C + B)
float32, whatever the model computes in: raw counts do not fit bfloat16.
"""

import json
from collections.abc import Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.checks import check_range
from recap_tf.model.normalization import BatchNorm


def log1p_abs(x: tf.Tensor) -> tf.Tensor:
    """A logarithm for values of both signs: sign(x) * log(1 + |x|). NaN stays NaN."""
    return tf.sign(x) * tf.math.log1p(tf.abs(x))


def replace_non_finite(x: tf.Tensor, value: float = 0.0) -> tf.Tensor:
    """Replaces NaN and +-infinity by `value`."""
    return tf.where(tf.math.is_finite(x), x, tf.constant(value, x.dtype))


class Preprocessor(keras.layers.Layer):
    """A preprocessor's frame: makes its input finite, appends the binary columns."""

    def __init__(self, **kwargs):
        super().__init__(**({"dtype": "float32"} | kwargs))

    def call(self, inputs, training=None):
        continuous = replace_non_finite(tf.cast(inputs["continuous"], tf.float32))
        dense = self.transform(continuous, training)
        if "binary" in inputs:
            dense = tf.concat([dense, tf.cast(inputs["binary"], tf.float32)], axis=-1)
        return dense

    def transform(self, continuous: tf.Tensor, training: bool | None) -> tf.Tensor:
        """Transforms continuous columns: (batch, C) finite -> (batch, C)."""
        raise NotImplementedError("A preprocessor defines transform().")


def _clip(x: tf.Tensor, magnitude: float) -> tf.Tensor:
    return tf.clip_by_value(x, -magnitude, magnitude)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class DoubleNormLog(Preprocessor):
    """The released ranker's preprocessor: logarithm between two normalizations.

        x      = clip(batch_norm(log1p_abs(finite(continuous))), +-clip_magnitude)
        output = layer_norm(concat(x, binary))

    Args:
        clip_magnitude: bound of the normalized values, above 0.
        batch_norm: settings of the `BatchNorm`; none leaves it out.
        layer_norm_epsilon: added to the row's variance; None leaves the layer norm
            out. 0, as released, turns a row whose values are all equal into NaN.

    >>> import tensorflow as tf
    >>> from recap_tf.model.preprocessors import DoubleNormLog
    >>> features = {"continuous": tf.ones([3, 5]), "binary": tf.ones([3, 2])}
    >>> DoubleNormLog()(features).shape
    TensorShape([3, 7])
    """

    def __init__(
        self,
        clip_magnitude: float = 5.0,
        batch_norm: Mapping[str, float | bool] | None = {"momentum": 0.99},
        layer_norm_epsilon: float | None = 1e-5,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_range("DoubleNormLog.clip_magnitude", clip_magnitude, above=0)
        self.clip_magnitude = clip_magnitude
        self.layer_norm_epsilon = layer_norm_epsilon
        self.batch_norm = self.layer_norm = None
        if batch_norm is not None:
            self.batch_norm = BatchNorm(**batch_norm, dtype="float32")
        if layer_norm_epsilon is not None:
            self.layer_norm = keras.layers.LayerNormalization(
                epsilon=layer_norm_epsilon, dtype="float32"
            )

    def transform(self, continuous, training):
        x = log1p_abs(continuous)
        if self.batch_norm is not None:
            x = self.batch_norm(x, training=training)
        return _clip(x, self.clip_magnitude)

    def call(self, inputs, training=None):
        dense = super().call(inputs, training)
        return dense if self.layer_norm is None else self.layer_norm(dense)

    def get_config(self):
        return super().get_config() | {
            "clip_magnitude": self.clip_magnitude,
            "batch_norm": _batch_norm_config(self.batch_norm),
            "layer_norm_epsilon": self.layer_norm_epsilon,
        }


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class Log1pAbs(Preprocessor):
    """Logarithms, nothing learned: x = log1p_abs(continuous).

    >>> import tensorflow as tf
    >>> from recap_tf.model.preprocessors import Log1pAbs
    >>> (row,) = Log1pAbs()({"continuous": tf.constant([[0.0, -9.0, float("nan")]])})
    >>> [round(float(value), 3) for value in row]
    [0.0, -2.303, 0.0]
    """

    def transform(self, continuous, training):
        return log1p_abs(continuous)


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ClipLog1pAbs(Preprocessor):
    """Logarithms of clipped values, nothing learned.

        x = log1p_abs(clip(continuous, +-clip_magnitude))

    Args:
        clip_magnitude: bound of the raw values, above 0.

    >>> import tensorflow as tf
    >>> from recap_tf.model.preprocessors import ClipLog1pAbs
    >>> clipped = ClipLog1pAbs(clip_magnitude=9.0)
    >>> (row,) = clipped({"continuous": tf.constant([[9.0, 1e6]])})
    >>> [round(float(value), 3) for value in row]
    [2.303, 2.303]
    """

    def __init__(self, clip_magnitude: float = 3e38, **kwargs):
        super().__init__(**kwargs)
        check_range("ClipLog1pAbs.clip_magnitude", clip_magnitude, above=0)
        self.clip_magnitude = clip_magnitude

    def transform(self, continuous, training):
        return log1p_abs(_clip(continuous, self.clip_magnitude))

    def get_config(self):
        return super().get_config() | {"clip_magnitude": self.clip_magnitude}


@gin.register
@keras.saving.register_keras_serializable(package="recap_tf")
class ZScoreLog(Preprocessor):
    """Standardizes the logarithms with statistics measured beforehand.

        x = clip((log1p_abs(continuous) - log_mean) / log_std, +-clip_magnitude)

    then an optional batch norm. A column whose log_std is 0 becomes 0.

    Args:
        statistics: path of the `columns.json` that `recap_tf.convert` wrote.
        log_mean, log_std: the statistics themselves, (C,) each, instead of the file.
        clip_magnitude: bound, in standard deviations, above 0.
        batch_norm: settings of a `BatchNorm`; none leaves it out.

    >>> import tensorflow as tf
    >>> from recap_tf.model.preprocessors import ZScoreLog
    >>> z_score = ZScoreLog(log_mean=[0.0], log_std=[2.0])
    >>> round(float(z_score({"continuous": tf.constant([[9.0]])})[0, 0]), 3)
    1.151
    """

    def __init__(
        self,
        statistics: str | None = None,
        log_mean: Sequence[float] | None = None,
        log_std: Sequence[float] | None = None,
        clip_magnitude: float = 5.0,
        batch_norm: Mapping[str, float | bool] | None = None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        check_range("ZScoreLog.clip_magnitude", clip_magnitude, above=0)
        if (statistics is None) == (log_mean is None or log_std is None):
            raise ValueError(
                "ZScoreLog needs either statistics, or log_mean and log_std. Received: "
                f"statistics={statistics!r}, log_mean={log_mean}, log_std={log_std}"
            )
        if statistics is not None:
            log_mean, log_std = _read_log_statistics(statistics)
        self.statistics = statistics
        self.log_mean, self.log_std = list(log_mean), list(log_std)
        self.clip_magnitude = clip_magnitude
        self.batch_norm = None
        if batch_norm is not None:
            self.batch_norm = BatchNorm(**batch_norm, dtype="float32")

    def build(self, shapes):
        width = shapes["continuous"][-1]
        if width != len(self.log_mean) or width != len(self.log_std):
            raise ValueError(
                f"ZScoreLog has statistics of {len(self.log_mean)} columns"
                f"{f' ({self.statistics})' if self.statistics else ''}, but "
                f"`continuous` has {width}."
            )
        super().build(shapes)

    def transform(self, continuous, training):
        std = np.asarray(self.log_std, np.float32)
        scale = np.where(std > 0, 1.0 / np.where(std > 0, std, 1.0), 0.0)
        mean = np.asarray(self.log_mean, np.float32)
        x = (log1p_abs(continuous) - mean) * scale.astype(np.float32)
        x = _clip(x, self.clip_magnitude)
        if self.batch_norm is not None:
            x = self.batch_norm(x, training=training)
        return x

    def get_config(self):
        # The numbers, not the path: a saved model must load where the file is not.
        return super().get_config() | {
            "log_mean": self.log_mean,
            "log_std": self.log_std,
            "clip_magnitude": self.clip_magnitude,
            "batch_norm": _batch_norm_config(self.batch_norm),
        }


def _batch_norm_config(batch_norm: BatchNorm | None) -> dict | None:
    if batch_norm is None:
        return None
    return {key: getattr(batch_norm, key) for key in ("momentum", "affine", "epsilon")}


def _read_log_statistics(path: str) -> tuple[list[float], list[float]]:
    if not tf.io.gfile.exists(path):
        raise ValueError(f"ZScoreLog.statistics = {path!r} does not exist.")
    with tf.io.gfile.GFile(path) as file:
        columns = json.load(file)["continuous"]
    return [c["log_mean"] for c in columns], [c["log_std"] for c in columns]
