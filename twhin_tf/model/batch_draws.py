"""Random members of groups within a batch, in static shapes and without a sort."""

import numpy as np
import tensorflow as tf

# Up to so many groups, looking for each one's candidates is faster than one sort.
_FEW_GROUPS = 16
_BLOCK = 64
# The first ones above 2^24.
_PRIMES = (
    *(16777259, 16777289, 16777291, 16777331, 16777333, 16777337, 16777381, 16777421),
    *(16777441, 16777447, 16777469, 16777499, 16777507, 16777531, 16777571, 16777577),
)


def draw_places(
    group: tf.Tensor, groups: int, count: int, seed: tf.Tensor
) -> tf.Tensor:
    """Places in the batch: of each group, all members in a random order, repeated, cut.

    A group's m members are taken in steps of a random prime from a random one on; m
    does not divide a larger prime, so that the m-th step comes back to the first. Steps
    through a batch that is shuffled itself are as good as a permutation, which would
    take a sort.

    Args:
        group: (batch,) integers below `groups`.
        groups: how many there are.
        count: places per group.
        seed: (2,) integers.

    Returns:
        (groups, count) int32. Those of a group that the batch does not hold are any.
    """
    batch = group.shape[0]
    if batch > _PRIMES[0]:
        raise ValueError(f"A batch holds at most {_PRIMES[0]} edges. Received: {batch}")
    draws = tf.random.stateless_uniform([2, groups, 1], seed, 0, 2**30, tf.int32)
    start, prime = tf.unstack(tf.cast(draws, tf.int64))
    step = tf.gather(tf.constant(_PRIMES, tf.int64), prime % len(_PRIMES))
    if groups <= _FEW_GROUPS:
        numbers = _members_up_to(group, groups)
        members = tf.cast(numbers[:, -1:], tf.int32)
    else:
        members = tf.math.unsorted_segment_sum(tf.ones_like(group), group, groups)
        members = tf.cast(members, tf.int32)[:, tf.newaxis]
    turns = start + step * tf.range(count, dtype=tf.int64)
    turns = tf.cast(turns % tf.cast(tf.maximum(members, 1), tf.int64), tf.int32)
    if groups <= _FEW_GROUPS:
        places = tf.searchsorted(numbers, tf.cast(turns + 1, tf.float32))
    else:
        # One sort puts the groups one after the other: group and place, from the
        # highest bits to the lowest.
        keys = tf.cast(group, tf.int64) * 2**24 + tf.range(batch, dtype=tf.int64)
        order = tf.cast(tf.sort(keys) % 2**24, tf.int32)
        starts = tf.cumsum(members, axis=0, exclusive=True)
        places = tf.gather(order, tf.minimum(starts + turns, batch - 1))
    return tf.minimum(places, batch - 1)


def _members_up_to(group: tf.Tensor, groups: int) -> tf.Tensor:
    """How many members a group has up to each place.

    (groups, batch or more) float32.
    """
    batch = group.shape[0]
    padded = tf.pad(group, [[0, -batch % _BLOCK]], constant_values=groups)
    of_group = tf.range(groups, dtype=group.dtype)[:, tf.newaxis] == padded
    blocks = tf.reshape(tf.cast(of_group, tf.float32), [-1, _BLOCK])
    # TensorFlow's cumulated sum of as many numbers takes ten times as long.
    within = tf.matmul(
        blocks, tf.constant(np.triu(np.ones([_BLOCK, _BLOCK])), tf.float32)
    )
    within = tf.reshape(within, [groups, -1, _BLOCK])
    before = tf.cumsum(within[:, :, -1:], axis=1, exclusive=True)
    return tf.reshape(before + within, [groups, -1])
