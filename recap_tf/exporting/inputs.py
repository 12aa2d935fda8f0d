"""What requests to a served model hold: dense tensors, and the viewer's part once."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.config.gin_names import did_you_mean
from recap_tf.data.record_batches import FeatureSpec

Ranges = Sequence[tuple[int, int]]


def padded_specs(specs: Mapping[str, FeatureSpec]) -> dict[str, tf.TensorSpec]:
    """The specs of a request's dense tensors, of the features' `specs`.

    A feature of variable length becomes (batch, any), filled up with whatever, and
    "<name>_length", (batch,), how many values count. A request of TF Serving holds no
    sparse tensors, and its batching wants equal first dimensions, which their parts
    have not. A length, unlike a value that means "nothing", leaves all ids possible,
    and lets the server pad rows as it likes.

    Raises:
        UserError: a feature has the name of another one's length.
    """
    padded = {}
    for name, spec in specs.items():
        if not isinstance(spec, tf.SparseTensorSpec):
            padded[name] = spec
            continue
        length = _length(name)
        if length in specs:
            raise UserError(
                f"Feature {length!r} must be called something else: an export takes "
                f"the lengths of {name!r} under that name."
            )
        padded[name] = tf.TensorSpec([None, None], spec.dtype, name)
        padded[length] = tf.TensorSpec([None], tf.int64, length)
    return padded


def without_padding(
    features: Mapping[str, tf.Tensor], specs: Mapping[str, FeatureSpec]
) -> dict[str, tf.Tensor | tf.SparseTensor]:
    """The features of `specs`, from tensors as `padded_specs` says."""
    whole = {}
    for name, spec in specs.items():
        whole[name] = values = features[name]
        if not isinstance(spec, tf.SparseTensorSpec):
            continue
        lengths, columns = features[_length(name)], tf.shape(values, tf.int64)[1]
        check = tf.debugging.Assert(
            tf.reduce_all((lengths >= 0) & (lengths <= columns)),
            [f"{name}_length must be from 0 to the columns of {name}:", lengths],
        )
        with tf.control_dependencies([check]):
            real = tf.sequence_mask(lengths, columns)
        whole[name] = tf.SparseTensor(
            tf.where(real), tf.boolean_mask(values, real), tf.shape(values, tf.int64)
        )
    return whole


def with_padding(
    features: Mapping[str, tf.Tensor | tf.SparseTensor],
) -> dict[str, tf.Tensor]:
    """The inverse of `without_padding`; what fills up is zeros or empty strings."""
    padded = {}
    for name, value in features.items():
        if isinstance(value, tf.SparseTensor):
            padded[_length(name)] = tf.RaggedTensor.from_sparse(value).row_lengths()
            value = tf.sparse.to_dense(value)
        padded[name] = value
    return padded


class RankInputs:
    """The inputs of a request that ranks candidates for one viewer.

    What is the viewer's alone is sent as one row, the rest as a row for each
    candidate; `repeated` puts them together. A feature that is the viewer's whole
    keeps its name; of one that is so in part, "<name>_viewer" (1, columns) holds the
    viewer's columns and "<name>" (candidates, columns) the others, both in the
    feature's own order.

    Attributes:
        specs: input -> its (1, ...) or (candidates, ...) spec.

    Args:
        specs: name -> (batch, ...) spec of dense features, see `padded_specs`.
        viewer_features, viewer_columns: see `settings.ExportSettings`.

    Raises:
        UserError: they do not fit the features, or leave nothing to candidates.
    """

    def __init__(
        self,
        specs: Mapping[str, tf.TensorSpec],
        viewer_features: Sequence[str],
        viewer_columns: Mapping[str, Ranges],
    ):
        self._features = dict(specs)
        self._whole = set()
        for name in viewer_features:
            _check_known("recap.export.viewer_features", name, specs)
            self._whole |= {name, _length(name)} & set(specs)
        self._segments: dict[str, list[tuple[bool, int]]] = {}
        for name, ranges in viewer_columns.items():
            setting = f"recap.export.viewer_columns[{name!r}]"
            _check_known("recap.export.viewer_columns", name, specs)
            if name in self._whole:
                raise UserError(
                    f"{setting}: all of {name!r} is in recap.export.viewer_features."
                )
            self._segments[name] = _segments(setting, ranges, specs[name])
        self.specs = self._request_specs()
        others = [name for name in self._features if name not in self._whole]
        if not others:
            raise UserError(
                "recap.export.viewer_features must leave a feature to the candidates. "
                f"Received: {list(viewer_features)}, which are all."
            )
        self._counted = others[0]

    def _request_specs(self) -> dict[str, tf.TensorSpec]:
        specs = {}
        for name, spec in self._features.items():
            if name in self._whole:
                specs[name] = tf.TensorSpec([1, *spec.shape[1:]], spec.dtype, name)
            elif name not in self._segments:
                specs[name] = spec
            else:
                width = sum(n for viewers, n in self._segments[name] if viewers)
                viewer, rest = f"{name}_viewer", spec.shape[1] - width
                if viewer in self._features:
                    raise UserError(
                        f"Feature {viewer!r} must be called something else: `rank` "
                        f"takes the viewer's columns of {name!r} under that name."
                    )
                specs[viewer] = tf.TensorSpec([1, width], spec.dtype, viewer)
                specs[name] = tf.TensorSpec([None, rest], spec.dtype, name)
        return specs

    def repeated(self, inputs: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """A row of all features for each candidate, from tensors as `specs` says."""
        candidates = tf.shape(inputs[self._counted])[0]
        first = tf.zeros([candidates], tf.int32)
        features = {}
        for name in self._features:
            features[name] = inputs[name]
            if name in self._whole:
                features[name] = tf.gather(inputs[name], first)
            elif name in self._segments:
                viewer = tf.gather(inputs[f"{name}_viewer"], first)
                features[name] = self._joined(name, viewer, inputs[name])
        return features

    def _joined(self, name: str, viewer: tf.Tensor, rest: tf.Tensor) -> tf.Tensor:
        taken = {True: 0, False: 0}
        parts = []
        for viewers, width in self._segments[name]:
            start = taken[viewers]
            parts.append((viewer if viewers else rest)[:, start : start + width])
            taken[viewers] += width
        # Slices, not a gather: columns lie in runs, and runs are copied whole.
        return tf.concat(parts, axis=1)

    def split(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """The inputs of a request for rows of all features.

        The viewer's are those of the first row.
        """
        inputs = {}
        for name, rows in features.items():
            if name in self._whole:
                inputs[name] = rows[:1]
            elif name not in self._segments:
                inputs[name] = rows
            else:
                runs = self._segments[name]
                viewers = np.concatenate(
                    [np.full(width, is_viewers) for is_viewers, width in runs]
                )
                inputs[f"{name}_viewer"] = rows[:1, viewers]
                inputs[name] = rows[:, ~viewers]
        return inputs


def _segments(
    setting: str, ranges: Ranges, spec: tf.TensorSpec
) -> list[tuple[bool, int]]:
    """All columns in their order, as (whether they are the viewer's, how many)."""
    if spec.shape.rank != 2 or spec.shape[1] is None:
        raise UserError(f"{setting} must be a feature of fixed length.")
    columns, at, segments = spec.shape[1], 0, []
    for first, end in ranges:
        if not at <= first < end <= columns:
            raise UserError(
                f"{setting} must be ascending ranges (first, end) of its {columns} "
                f"columns that do not overlap. Received: {list(ranges)}"
            )
        segments += [(False, first - at)] * (first > at) + [(True, end - first)]
        at = end
    segments += [(False, columns - at)] * (at < columns)
    if {viewers for viewers, _ in segments} != {True, False}:
        raise UserError(
            f"{setting} must be some of its {columns} columns, not "
            f"{'all; use recap.export.viewer_features' if ranges else 'none'}. "
            f"Received: {list(ranges)}"
        )
    return segments


def _check_known(setting: str, name: str, specs: Mapping[str, tf.TensorSpec]) -> None:
    if name not in specs:
        raise UserError(
            f"{setting} names the feature {name!r}, which the model does not take."
            f"{did_you_mean(name, specs)}"
        )


def _length(name: str) -> str:
    return f"{name}_length"
