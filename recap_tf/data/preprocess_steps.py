"""The optional steps between parsing a batch and training on it.

A step is `batch -> batch`; steps always run in the order of this file, whatever the
order in the config. A batch is (features, labels, weights): name -> (batch, ...)
tensor, (batch, tasks) integers, (batch, tasks) float32. A step that belongs to serving
too is also `features -> features`, under the name `serve`.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import gin
import numpy as np
import tensorflow as tf

from recap_tf.data.tasks import check_known

Features = dict[str, tf.Tensor]
Batch = tuple[Features, tf.Tensor, tf.Tensor]

_DTYPES = ("bfloat16", "bool", "float16", "uint8")
_MS_PER_HOUR = 3_600_000


class Step:
    """One preprocessing step.

    Attributes:
        order: steps run by ascending order.
        training_only: left out in evaluation, which sees every record once.
    """

    order: int
    training_only = False

    def __call__(self, batch: Batch, tasks: Sequence[str]) -> Batch:
        features, labels, weights = batch
        return self.serve(features), labels, weights

    def serve(self, features: Features) -> Features:
        """What the step does to features alone; nothing, unless overridden."""
        return features

    def label_features(self) -> dict[str, bool]:
        """Features that make labels, as times of engagements do -> whether every
        record should have one. They are read for the step, and are no input of a
        model that is served, where nobody knows them."""
        return {}

    def check_tasks(self, tasks: Sequence[str]) -> None:
        """Raises ValueError if the step names a task that is not in `tasks`."""


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class DownsampleNegatives(Step):
    """Fills a batch with the positives of a larger one first, then negatives.

    B examples of batch_multiplier * B stay: the P that have any of the engagements, in
    their order, then negatives, in theirs. The negatives' weights are multiplied by

        (batch_multiplier * B - P) / (B - P)

    the number of negatives each stands for; so a loss is about batch_multiplier times
    that of a batch that was not downsampled. If P > B, surplus positives are dropped
    and the log says so: choose a smaller multiplier then.

    Args:
        batch_multiplier: how many batches are read for one that is kept.
        engagements: tasks; an example with label 1 for any of them is a positive.
    """

    batch_multiplier: int
    engagements: Sequence[str]
    order = 1
    training_only = True

    def __post_init__(self):
        if self.batch_multiplier < 1:
            raise ValueError(
                "DownsampleNegatives.batch_multiplier must be at least 1. Received: "
                f"{self.batch_multiplier}"
            )

    def check_tasks(self, tasks):
        check_known("DownsampleNegatives.engagements", self.engagements, tasks)

    def __call__(self, batch, tasks):
        features, labels, weights = batch
        self.check_tasks(tasks)
        columns = [tasks.index(task) for task in self.engagements]
        positive = tf.reduce_any(tf.gather(labels, columns, axis=1) == 1, axis=1)
        read = labels.shape[0] or tf.shape(labels)[0]
        kept = read // self.batch_multiplier
        positives = tf.math.count_nonzero(positive, dtype=tf.int32)
        tf.cond(
            positives > kept,
            lambda: tf.print(
                "DownsampleNegatives:", positives, "positives for", kept, "places"
            ),
            tf.no_op,
        )
        rows = tf.concat([tf.where(positive)[:, 0], tf.where(~positive)[:, 0]], 0)
        rows = tf.reshape(rows[:kept], [kept])
        factor = tf.math.divide_no_nan(
            tf.cast(read - positives, tf.float32),
            tf.cast(kept - positives, tf.float32),
        )
        stands_for = tf.where(tf.gather(positive, rows), 1.0, factor)
        return (
            {name: _take(value, rows) for name, value in features.items()},
            tf.gather(labels, rows),
            tf.gather(weights, rows) * stands_for[:, tf.newaxis],
        )


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class TruncateAndSlice(Step):
    """Keeps the first columns of continuous and binary, then those of a mask.

    Args:
        continuous_truncation, binary_truncation: columns kept; all if none.
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

    Args:
        features: feature -> "bfloat16", "bool", "float16" or "uint8".
    """

    features: Mapping[str, str]
    order = 3

    def __post_init__(self):
        for name, dtype in self.features.items():
            if dtype not in _DTYPES:
                raise ValueError(
                    f"DownCast.features[{name!r}] must be one of {list(_DTYPES)}. "
                    f"Received: {dtype!r}"
                )

    def serve(self, features):
        _check_features("DownCast.features", self.features, features)
        cast = {n: tf.cast(features[n], dtype) for n, dtype in self.features.items()}
        return features | cast


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class RectifyLabels(Step):
    """Takes back labels of engagements that came long after the post was served.

        label stays 1 if impressed - served < window and engaged - served < window

    The features it names are read for it, under their names in the records, and not
    handed on; where `Records.features` or `extra_features` hold one, it stays.

    Args:
        served, impressed: features with those times, one integer, in ms.
        engaged: task -> the feature with the time of its engagement, in ms; missing
            where there was none.
        window_hours: the longest time that still counts, exclusive.
    """

    served: str
    impressed: str
    engaged: Mapping[str, str]
    window_hours: float = 3.0
    order = 4

    def __post_init__(self):
        if not self.window_hours > 0.0:
            raise ValueError(
                "RectifyLabels.window_hours must be above 0. Received: "
                f"{self.window_hours}"
            )

    def label_features(self):
        engaged = dict.fromkeys(self.engaged.values(), False)
        return engaged | {self.served: True, self.impressed: True}

    def check_tasks(self, tasks):
        check_known("RectifyLabels.engaged", self.engaged, tasks)

    def __call__(self, batch, tasks):
        features, labels, weights = batch
        self.check_tasks(tasks)
        for name in self.label_features():
            _check_features("RectifyLabels", [name], features)
            _check_time(name, features[name])
        window = int(self.window_hours * _MS_PER_HOUR)

        def since_served(name: str) -> tf.Tensor:
            return tf.reshape(features[name] - features[self.served], [-1])

        in_time = since_served(self.impressed) < window
        columns = tf.unstack(labels, num=len(tasks), axis=1)
        for task, name in self.engaged.items():
            i = tasks.index(task)
            stays = in_time & (since_served(name) < window)
            columns[i] = columns[i] * tf.cast(stays, labels.dtype)
        return features, tf.stack(columns, axis=1), weights


@gin.register
@dataclasses.dataclass(frozen=True, kw_only=True)
class ExtractFeatures(Step):
    """Makes single columns of dense features available under names of their own.

    Args:
        columns: new feature -> (feature, column). The new one is (batch,).
    """

    columns: Mapping[str, tuple[str, int]]
    order = 5

    def serve(self, features):
        extracted = {}
        for new, (name, column) in self.columns.items():
            _check_features(f"ExtractFeatures.columns[{new!r}]", [name], features)
            if not 0 <= column < features[name].shape[-1]:
                raise ValueError(
                    f"ExtractFeatures.columns[{new!r}]: `{name}` has "
                    f"{features[name].shape[-1]} columns. Received: column {column}"
                )
            extracted[new] = features[name][:, column]
        return features | extracted


def in_order(steps: Sequence[Step]) -> list[Step]:
    """The steps as they run.

    Raises:
        ValueError: the same kind of step twice.
    """
    kinds = [type(step).__name__ for step in steps]
    for kind in kinds:
        if kinds.count(kind) > 1:
            raise ValueError(f"Records.preprocess holds {kind} more than once.")
    return sorted(steps, key=lambda step: step.order)


def mask_mantissa(
    x: tf.Tensor | tf.SparseTensor, bits: int
) -> tf.Tensor | tf.SparseTensor:
    """float32 `x` with the lowest `bits` bits of every pattern set to 0.

    x & (2^32 - 2^bits): tries out a lower precision without changing the type.
    """
    if isinstance(x, tf.SparseTensor):
        return x.with_values(mask_mantissa(x.values, bits))
    pattern = tf.bitcast(x, tf.int32)
    return tf.bitcast(tf.bitwise.bitwise_and(pattern, -(1 << bits)), tf.float32)


def _take(x: tf.Tensor | tf.SparseTensor, rows: tf.Tensor):
    if isinstance(x, tf.SparseTensor):
        return tf.gather(tf.RaggedTensor.from_sparse(x), rows).to_sparse()
    return tf.gather(x, rows)


def _check_time(name: str, x: tf.Tensor | tf.SparseTensor) -> None:
    # float32 would round a time in ms to minutes.
    one = x.shape.rank == 1 or (x.shape.rank == 2 and x.shape[1] == 1)
    if not one or not x.dtype.is_integer:
        raise ValueError(
            f"RectifyLabels takes the feature {name!r} for a time in ms, one int64. "
            f"Received: {x.dtype.name} of shape {x.shape}"
        )


def mask_features(features: Features, bits: Mapping[str, int]) -> Features:
    """`features`, those in `bits` with as many low bits of each value set to 0.

    Raises:
        ValueError: one of them is not there, or not float32.
    """
    _check_features("Records.masked_mantissa_bits", bits, features)
    for name in bits:
        if features[name].dtype != tf.float32:
            raise ValueError(
                f"Records.masked_mantissa_bits[{name!r}] must be a feature of floats. "
                f"Received: {features[name].dtype.name}"
            )
    masked = {name: mask_mantissa(features[name], n) for name, n in bits.items()}
    return features | masked


def _check_features(setting: str, named, features: Features) -> None:
    for name in named:
        if name not in features:
            raise ValueError(
                f"{setting} names the feature {name!r}, which is not read. "
                f"Features: {sorted(features)}."
            )


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
