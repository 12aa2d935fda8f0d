"""Tables cut by rows into shards: under parameter servers each server holds one.

To the model such a table is one (rows, dim) variable, and so it is in a checkpoint,
which other numbers of servers and a single device can read. To optimizers each shard is
a variable of its own, whose rows are updated where they are.
"""

import contextlib
import contextvars
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import tensorflow as tf
import tf_keras as keras

from recap_tf.core.command import UserError
from recap_tf.core.storage.huge_pages import use_huge_pages

ShardedVariable = tf.__internal__.distribute.ShardedVariable
"""What `tf.distribute.ParameterServerStrategy` makes of a variable that it cuts."""

# Below, another server to ask costs more than it takes off the first one.
_LEAST_BYTES = 16 << 10
# Those whose numbers do not depend on how many rows they make at once.
_BY_SHARD = (
    keras.initializers.Zeros,
    keras.initializers.Ones,
    keras.initializers.Constant,
    keras.initializers.RandomUniform,
    keras.initializers.RandomNormal,
    keras.initializers.TruncatedNormal,
)
_making_table = contextvars.ContextVar("making_table", default=False)


def partitioner(servers: int) -> Callable[..., Sequence[int]]:
    """Cuts what `make_table` makes over all servers; 16 KiB take no second one.

    Other weights stay whole: those of a relation or a dense layer are read whole.

    Args:
        servers: parameter servers, at least 1.
    """
    by_size = tf.distribute.experimental.partitioners.MinSizePartitioner(
        _LEAST_BYTES, max_shards=servers
    )

    def cut(shape: tf.TensorShape, dtype: tf.DType, **kwargs) -> Sequence[int]:
        if _making_table.get():
            return by_size(shape, dtype, **kwargs)
        return [1] * len(shape)

    return cut


def make_table(
    initializer: keras.initializers.Initializer,
    shape: tuple[int, int],
    dtype: tf.DType | str,
    name: str,
) -> tf.Variable | ShardedVariable:
    """A table with first values, made shard by shard where the strategy cuts it.

    Args:
        initializer: of float32 numbers.
        shape: (rows, dim).
        dtype: any float type.
        name: of the variable.

    Raises:
        UserError: it would be cut, but its initializer can only make it whole.
    """
    strategy = tf.distribute.get_strategy()
    servers = isinstance(strategy, tf.distribute.ParameterServerStrategy)
    if servers and type(initializer) not in _BY_SHARD:
        raise UserError(
            f"The initializer of table {name!r} must be one of "
            f"{', '.join(known.__name__ for known in _BY_SHARD)} under parameter "
            "servers. "
            f"Received: {type(initializer).__name__}"
        )

    def initial(**part) -> tf.Tensor:
        return tf.cast(initializer(shape, tf.float32, **part), dtype)

    with _cutting():
        table = tf.Variable(initial, shape=shape, dtype=dtype, name=name)
    use_huge_pages(table)
    return table


@contextlib.contextmanager
def _cutting() -> Iterator[None]:
    token = _making_table.set(True)
    try:
        yield
    finally:
        _making_table.reset(token)


def shards_of(table: tf.Variable | ShardedVariable) -> list[tf.Variable]:
    """The variables that an optimizer updates."""
    return list(table) if isinstance(table, ShardedVariable) else [table]


def read_shards(
    table: ShardedVariable,
    rows: tf.Tensor,
    read: Callable[[tf.Variable, tf.Tensor], tf.Tensor],
) -> tf.Tensor:
    """Reads rows of a sharded table, (..., dim); each shard is asked for its own only.

    `tf.gather` would give them in another order, and `tf.nn.embedding_lookup` does not
    know how to read tables of 16-bit numbers.

    Args:
        table: (rows, dim).
        rows: (...) integers.
        read: (shard, (n,) rows of it) -> (n, dim).
    """
    shards = shards_of(table)
    sizes = [shard.shape[0] for shard in shards]
    starts = tf.constant(np.cumsum([0, *sizes[:-1]]), rows.dtype)
    flat = tf.reshape(rows, [-1])
    owner = tf.searchsorted(starts, flat, side="right") - 1
    asked = tf.dynamic_partition(flat - tf.gather(starts, owner), owner, len(shards))
    places = tf.dynamic_partition(tf.range(tf.size(flat)), owner, len(shards))
    answers = [read(shard, part) for shard, part in zip(shards, asked, strict=True)]
    dim = table.shape[1]
    vectors = tf.reshape(
        tf.dynamic_stitch(places, answers), tf.concat([tf.shape(rows), [dim]], axis=0)
    )
    return tf.ensure_shape(vectors, [*rows.shape, dim])
