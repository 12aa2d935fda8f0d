"""Which part of a data set an input pipeline reads."""

import dataclasses

import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Shard:
    """Which of `count` input pipelines this one is; scalar tensors will do."""

    index: int | tf.Tensor = 0
    count: int | tf.Tensor = 1


WHOLE = Shard()
