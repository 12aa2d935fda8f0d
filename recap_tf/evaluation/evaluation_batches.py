"""What an evaluation reads of a validation set: batches, their slices and groups."""

import dataclasses
from typing import NamedTuple

import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.config.gin_names import did_you_mean
from recap_tf.data import record_probe
from recap_tf.data.record_batches import Mode, Records, read_batches
from recap_tf.data.schema import VARIABLE, Schema, read_schema
from recap_tf.evaluation.traced_specs import TracedSpecs
from recap_tf.evaluation.validation_sets import EvaluateSettings, ValidationSet
from recap_tf.metrics import metric_choice

_GROUP = "recap.evaluate.group_feature"


class EvaluationBatch(NamedTuple):
    """One batch of a validation set.

    Args:
        features: name inside the model -> tensor, of what the model takes.
        labels: (batch, tasks), 0 or 1.
        weights: (batch, tasks) float32, how many examples of the traffic each is.
        slices: (slices, batch) bool, whether an example is in each.
        groups: (batch,) int64, which user or request an example belongs to; none if
            no metric asks.
    """

    features: dict[str, tf.Tensor]
    labels: tf.Tensor
    weights: tf.Tensor
    slices: tf.Tensor
    groups: tf.Tensor | None


class EvaluationInput:
    """Reads one validation set; says at once what of it cannot be evaluated.

    Args:
        named: the set.
        settings: its slices, groups and metrics.
        specs: those that the run has traced; none for this set's alone.

    Raises:
        ValueError: a slice, or a group that a metric needs, has no feature.
        UserError: no record holds that feature.
    """

    def __init__(
        self,
        named: ValidationSet,
        settings: EvaluateSettings,
        specs: TracedSpecs | None = None,
    ):
        traced = specs or TracedSpecs()
        self._settings = settings
        self._schema = read_schema(named.records.schema)
        self._model_specs = traced.of(named.records)
        wanted = {
            part.feature: f"Slice.feature of slice {part.name!r}"
            for part in settings.slices
        }
        grouped = metric_choice.grouped(settings.which_metrics)
        if grouped:
            wanted |= {_group_feature(grouped[0], settings, self._schema): _GROUP}
        self._names = {
            feature: self._name(feature, setting, named.records)
            for feature, setting in wanted.items()
        }
        added = [name for name in self._names.values() if name not in self._model_specs]
        self._added = list(dict.fromkeys(added))
        self._records = dataclasses.replace(
            named.records, extra_features=[*named.records.extra_features, *self._added]
        )
        read = traced.of(self._records)
        for part in settings.slices:
            part.check(read[self._names[part.feature]])
        self._group = self._names[settings.group_feature] if grouped else None
        if grouped:
            _check_group(settings.group_feature, read[self._group])
        for feature, setting in wanted.items():
            if self._names[feature] in self._added:
                _check_present(named.records, feature, f"{setting} = {feature!r}")

    def batches(self, tasks: list[str]) -> tf.data.Dataset:
        """Reads the set as `EvaluationBatch`es, as many as are to be evaluated."""
        batches = read_batches(
            self._records, tasks, Mode.EVALUATE, self._settings.batch_size
        )
        return batches.take(self._settings.steps).map(self._split)

    def _split(self, features, labels, weights) -> EvaluationBatch:
        rows = tf.shape(labels)[0]
        masks = [
            part.mask(features, self._names[part.feature])
            for part in self._settings.slices
        ]
        groups = None if self._group is None else _hashed(features[self._group])
        return EvaluationBatch(
            {name: x for name, x in features.items() if name not in self._added},
            labels,
            weights,
            tf.stack(masks) if masks else tf.zeros([0, rows], tf.bool),
            groups,
        )

    def _name(self, feature: str, setting: str, records: Records) -> str:
        """The name under which the batches hold, or will hold, `feature`."""
        inside = records.names().get(feature, feature)
        if inside in self._model_specs:
            if isinstance(self._model_specs[inside], tf.SparseTensorSpec):
                raise ValueError(_not_of_fixed_length(feature, setting))
            return inside
        if feature not in self._schema:
            known = [*self._model_specs, *self._schema]
            raise ValueError(
                f"{setting} = {feature!r} is neither read nor in the schema "
                f"{self._schema.path}.{did_you_mean(feature, known)}"
            )
        if self._schema[feature].length == VARIABLE:
            raise ValueError(_not_of_fixed_length(feature, setting))
        return feature


def _not_of_fixed_length(feature: str, setting: str) -> str:
    return (
        f"{setting} must be a feature of fixed length. Received: {feature!r}, of "
        "variable length"
    )


def _group_feature(metric: str, settings: EvaluateSettings, schema: Schema) -> str:
    if settings.group_feature is None:
        near = [name for name in schema if name.startswith("meta")]
        advice = f" The records hold {', '.join(map(repr, near))}." if near else ""
        raise ValueError(
            f"The metric {metric!r} needs {_GROUP}, the feature that tells users or "
            f"requests apart, which is not set.{advice}"
        )
    if settings.group_feature not in schema:
        raise ValueError(
            f"The metric {metric!r} needs {_GROUP} = {settings.group_feature!r}, which "
            f"is not in the schema {schema.path}."
            f"{did_you_mean(settings.group_feature, schema)}"
        )
    return settings.group_feature


def _check_group(feature: str, spec: tf.TensorSpec) -> None:
    width = 1 if spec.shape.rank == 1 else spec.shape[-1]
    if width != 1 or not (spec.dtype.is_integer or spec.dtype == tf.string):
        raise ValueError(
            f"{_GROUP} must be one integer or bytes value per record. Received: "
            f"{feature!r}, {width} values of {spec.dtype.name}"
        )


def _check_present(records: Records, feature: str, setting: str) -> None:
    # It would read as zeros without a word: all examples in one group or slice.
    sought = dataclasses.replace(
        records, features={}, extra_features=[feature], missing_tolerance=1.0
    )
    try:
        record_probe.probe(sought, [])
    except UserError as error:
        raise UserError(f"{setting}: {error}") from error


def _hashed(group: tf.Tensor) -> tf.Tensor:
    group = tf.reshape(group, [-1])
    if group.dtype == tf.string:
        return tf.strings.to_hash_bucket_fast(group, 2**62)
    return tf.cast(group, tf.int64)
