"""The training set as each replica reads it, and where in it a run has got to."""

import functools
from collections.abc import Callable, Iterator, Sequence

import tensorflow as tf

from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.data.record_batches import Mode, Records, Shard, read_batches


class TrainingInput:
    """Batches of the training set.

    Args:
        records: the training set.
        tasks: the labels' columns.
        batch_size: examples per batch over all replicas.
        seed: of the order.
        strategy: whose replicas read.
        tables: those that find their rows while the input is read, as TPUs want it.

    Attributes:
        position: what is saved to go on from here; none where it cannot be: several
            replicas, or a tf.data service.
    """

    def __init__(
        self,
        records: Records,
        tasks: Sequence[str],
        batch_size: int,
        seed: int,
        strategy: tf.distribute.Strategy,
        tables: EmbeddingTables | None = None,
    ):
        self._records, self._tasks = records, tasks
        self._batch_size, self._seed = batch_size, seed
        self._strategy, self._tables = strategy, tables
        self.position: Iterator | None = None

    def start(self, done: int, restore: Callable[[Iterator], bool]) -> Iterator:
        """The batches from here on.

        Args:
            done: updates that the run has behind it.
            restore: moves an iterator to where the run was; False if that is unknown.
        """
        one = self._strategy.num_replicas_in_sync == 1
        if one and self._records.data_service is None:
            self.position = iterator = self._iterator(self._seed)
            if not done or restore(iterator):
                return iterator
        # Where the position is not saved, a resumed run shuffles anew, lest it see the
        # first records again in the same order.
        return self._iterator(self._seed + done)

    def _iterator(self, seed: int) -> Iterator:
        read = functools.partial(read_batches, self._records, self._tasks, Mode.TRAIN)
        options = None
        if self._tables is not None:
            read = _with_rows(read, self._tables)
            # The embedding cores take their input from the host.
            options = tf.distribute.InputOptions(experimental_fetch_to_device=False)
        if self._strategy.num_replicas_in_sync == 1:
            return iter(read(self._batch_size, seed=seed))
        return iter(
            self._strategy.distribute_datasets_from_function(
                lambda context: read(
                    context.get_per_replica_batch_size(self._batch_size),
                    shard=Shard(context.input_pipeline_id, context.num_input_pipelines),
                    seed=seed,
                ),
                options,
            )
        )


def _with_rows(read: Callable[..., tf.data.Dataset], tables: EmbeddingTables):
    """`read` whose batches hold the tables' rows in place of ids."""

    def to_rows(features, labels, weights):
        return {**features, **tables.rows_of(features)}, labels, weights

    return lambda *where, **how: read(*where, **how).map(to_rows)
