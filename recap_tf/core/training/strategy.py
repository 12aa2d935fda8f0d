"""Where a model is trained: one device, several, or a TPU pod."""

from collections.abc import Callable, Iterator
from typing import Literal, get_args

import tensorflow as tf

from recap_tf.core.checks import check_choice
from recap_tf.core.training import cluster
from recap_tf.core.training.shard import Shard

StrategyName = Literal["one_device", "mirrored", "multi_worker", "tpu"]
PARAMETER_SERVER = "parameter_server"
"""A further one, for models whose tables are made to be cut."""


def make_strategy(name: StrategyName | str, tpu: str = "") -> tf.distribute.Strategy:
    """The `tf.distribute` strategy of that name.

    Args:
        name: "one_device"; "mirrored", all accelerators of this machine, or all its
            logical CPUs; "multi_worker", the machines that TF_CONFIG lists; "tpu";
            "parameter_server", of the chief that TF_CONFIG lists.
        tpu: the TPU's name or address; "" finds that of the machine.

    Raises:
        ValueError: an unknown name, no TPU answers, or TF_CONFIG is unfit.
    """
    check_choice("strategy", name, [*get_args(StrategyName), PARAMETER_SERVER])
    if name == "one_device":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        accelerators = tf.config.list_logical_devices("GPU")
        devices = accelerators or tf.config.list_logical_devices("CPU")
        # All-reduce by copying to one device: the default, collective one, holds a
        # second model in the same process up for ever.
        return tf.distribute.MirroredStrategy(
            [device.name for device in devices],
            cross_device_ops=None
            if accelerators
            else tf.distribute.ReductionToOneDevice(),
        )
    if name == "multi_worker":
        return tf.distribute.MultiWorkerMirroredStrategy()
    if name == "tpu":
        return _tpu_strategy(tpu)
    return cluster.connect(cluster.read_task())


def _tpu_strategy(tpu: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, OSError, tf.errors.OpError) as error:
        raise ValueError(
            f"No TPU answers under the name {tpu!r}: {str(error).splitlines()[0]}"
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def per_replica_batch_size(batch_size: int, strategy: tf.distribute.Strategy) -> int:
    """What each replica gets of a global batch.

    Raises:
        ValueError: it does not divide evenly.
    """
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"batch_size must be a multiple of the {replicas} replicas. "
            f"Received: {batch_size}"
        )
    return batch_size // replicas


def iterate(
    strategy: tf.distribute.Strategy,
    read: Callable[..., tf.data.Dataset],
    batch_size: int,
    options: tf.distribute.InputOptions | None = None,
) -> Iterator:
    """The batches of a data set, each machine reading its share for its replicas.

    Args:
        strategy: whose replicas train.
        read: called as read(batch_size) for the whole data set, and as
            read(batch_size, shard=Shard(...)) for a share of it.
        batch_size: over all replicas; a multiple of their number.
        options: how several replicas get their batches.
    """
    if strategy.num_replicas_in_sync == 1:
        return iter(read(batch_size))
    return iter(
        strategy.distribute_datasets_from_function(
            lambda context: read(
                context.get_per_replica_batch_size(batch_size),
                shard=Shard(context.input_pipeline_id, context.num_input_pipelines),
            ),
            options,
        )
    )
