"""Builds large tables as TPUs want them, and as plain variables off TPU.

Both are tensorflow-recommenders' `TPUEmbedding`. Under a TPUStrategy it keeps tables in
the memory of the embedding cores, where they update themselves.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import tensorflow as tf
import tensorflow_recommenders as tfrs
import tf_keras as keras

from recap_tf.core.embeddings.table_spec import TableSpec
from recap_tf.core.optimizers.grouped import Optimizer
from recap_tf.core.optimizers.learning_rate_schedules import Schedule

_on_tpu = tf.tpu.experimental.embedding


def under_tpu() -> bool:
    """Whether tables that are made now are those of a TPU."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def check_for_tpu(
    layer: str,
    specs: Iterable[TableSpec],
    replica_batch_size: int | Mapping[str, int] | None,
) -> None:
    """Raises ValueError unless TPUs can have the tables.

    Args:
        layer: name of its class, for the message.
        specs: of the tables.
        replica_batch_size: the layer's.
    """
    if replica_batch_size is None:
        raise ValueError(f"{layer}.replica_batch_size must be given on TPUs.")
    for spec in specs:
        if spec.l2 or spec.open_vocabulary is not None:
            setting = "l2" if spec.l2 else "open_vocabulary"
            raise ValueError(
                f"TableSpec.{setting} of table {spec.name!r} is not to be had on TPUs."
            )


def feature_configs(
    specs: Iterable[TableSpec], counter: Optimizer | None
) -> dict[str, _on_tpu.FeatureConfig]:
    """The tables as TensorFlow takes them: feature -> its config with its table's.

    Args:
        specs: of the tables.
        counter: counts the steps that schedules of learning rates go by, for tables
            that update themselves; None for tables that do not.
    """
    configs = {}
    for spec in specs:
        table = _table_config(spec, counter)
        for feature in spec.features:
            configs[feature] = _on_tpu.FeatureConfig(
                table=table,
                name=feature,
                # Else empty bags look id 0 up.
                validate_weights_and_indices=False,
            )
    return configs


def _table_config(spec: TableSpec, counter: Optimizer | None) -> _on_tpu.TableConfig:
    optimizer = None
    if counter is not None:
        rate = spec.learning_rate
        if isinstance(rate, Schedule):
            rate = functools.partial(_rate_now, rate, counter)
        optimizer = spec.make_optimizer().as_tpu(rate)
    return _on_tpu.TableConfig(
        vocabulary_size=spec.rows + spec.make_rows().shared_rows,
        dim=spec.dim,
        initializer=keras.initializers.get(spec.initializer),
        optimizer=optimizer,
        combiner=spec.combiner,
        name=spec.name,
    )


def _rate_now(schedule: Schedule, counter: Optimizer) -> tf.Tensor:
    return schedule(counter.iterations)


def build_tables(
    features: Mapping[str, _on_tpu.FeatureConfig],
    replica_batch_size: int | Mapping[str, int] | None,
) -> tfrs.layers.embedding.TPUEmbedding:
    """The layer that holds the tables: on TPUs in the cores, else as variables.

    Args:
        features: see `feature_configs`.
        replica_batch_size: examples per batch and replica, for all features or for
            each; off TPU none is fine.
    """
    shapes: dict[str, Any] = {name: None for name in features}
    if isinstance(replica_batch_size, Mapping):
        shapes = {name: tf.TensorShape([replica_batch_size[name]]) for name in features}
        replica_batch_size = None
    layer = tfrs.layers.embedding.TPUEmbedding(
        features, optimizer=None, batch_size=replica_batch_size
    )
    layer.build(shapes)
    return layer


def build_off_tpu(
    features: Mapping[str, _on_tpu.FeatureConfig],
) -> _on_tpu.TPUEmbedding:
    """The tables of a TPU, and the state that it keeps of them, as plain variables.

    To be called outside of the TPUStrategy's scope.
    """
    # A checkpoint of TPUEmbeddingForServing, which the layer takes off TPU, does not
    # know that cores have to load what was read.
    tables = _on_tpu.TPUEmbedding(features, optimizer=None)
    tables.build()
    return tables
