"""The training set as each replica reads it."""

import functools
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.training.input_position import ResumableInput
from recap_tf.core.training.strategy import iterate
from recap_tf.data.record_batches import Mode, Records, read_batches


def training_batches(
    records: Records,
    tasks: Sequence[str],
    batch_size: int,
    seed: int,
    strategy: tf.distribute.Strategy,
    tables: EmbeddingTables | None = None,
) -> ResumableInput:
    """Batches (features, labels, weights) of the training set, without end.

    Args:
        records: the training set.
        tasks: the labels' columns.
        batch_size: examples per batch over all replicas.
        seed: of the order.
        strategy: whose replicas read.
        tables: those that find their rows while the input is read, as TPUs want it.
    """
    read, options = read_batches, None
    if tables is not None:
        read = _with_rows(read, tables)
        # The embedding cores take their input from the host.
        options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
    read = functools.partial(read, records, tasks, Mode.TRAIN)

    def iterator(order: int) -> Iterator:
        in_order = functools.partial(read, seed=order)
        return iterate(strategy, in_order, batch_size, options)

    restorable = strategy.num_replicas_in_sync == 1 and records.data_service is None
    return ResumableInput(iterator, seed, restorable)


def _with_rows(
    read: Callable[..., tf.data.Dataset], tables: EmbeddingTables
) -> Callable[..., tf.data.Dataset]:
    """`read` whose batches hold the tables' rows in place of ids."""

    def to_rows(features, labels, weights):
        return {**features, **tables.rows_of(features)}, labels, weights

    return lambda *where, **how: read(*where, **how).map(to_rows)
