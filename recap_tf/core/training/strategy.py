"""Where a model is trained: one device, several, or a TPU pod."""

from typing import Literal

import tensorflow as tf

from recap_tf.core.training import cluster

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
    if name == PARAMETER_SERVER:
        return cluster.connect(cluster.read_task())
    raise ValueError(
        "strategy must be one of one_device, mirrored, multi_worker, tpu, "
        f"parameter_server. Received: {name!r}"
    )


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
