"""One update of a graph's vectors whose tables look up before the step begins."""

from collections.abc import Iterator

import tensorflow as tf

from recap_tf.core.embeddings.embedding_tables import EmbeddingTables
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from twhin_tf.model.graph_embeddings import EdgeObjective
from twhin_tf.model.lookups import Inquiry, Lookups

# All shapes are static; of tensors that may be short, TensorFlow would hand padded
# copies to the embedding cores, which take their input as it came.
_AS_IT_COMES = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)


class TpuTrainingStep:
    """Takes inquiries from an iterator and trains on them; a `loop.TrainingStep`.

    Under a TPUStrategy, the tables' layer answers from the embedding cores, and its
    only weight is one that makes its gradient the cores' update. Off TPU it gathers
    rows of its weights, and this is any other step.

    Args:
        objective: of a batch.
        lookups: what inquiries ask for.
        tables: that answer.
        relations: the operators' weights.
        optimizer: of the layer's weights and of `relations`.
        step: counts the updates.
        strategy: whose replicas train.
    """

    def __init__(
        self,
        objective: EdgeObjective,
        lookups: Lookups,
        tables: EmbeddingTables,
        relations: list[tf.Variable],
        optimizer: GroupedOptimizer,
        step: tf.Variable,
        strategy: tf.distribute.Strategy,
    ):
        self.names = list(objective.names)
        self._objective, self._lookups, self._tables = objective, lookups, tables
        self._weights = [*tables.trainable_weights, *relations]
        self._optimizer, self._step, self._strategy = optimizer, step, strategy

    @tf.autograph.experimental.do_not_convert
    def __call__(self, iterator: Iterator) -> tf.Tensor:
        inquiry = iterator.get_next()
        reports = self._strategy.run(self.update, (inquiry,), options=_AS_IT_COMES)
        self._step.assign_add(1)
        return self._strategy.reduce(tf.distribute.ReduceOp.MEAN, reports, axis=None)

    @tf.autograph.experimental.do_not_convert
    def update(self, inquiry: Inquiry) -> tf.Tensor:
        """Trains on a replica's batch; the objective's numbers."""
        with tf.GradientTape() as tape:
            vectors = self._tables(inquiry.rows)
            report = self.report(inquiry, vectors)
            # The optimizers, and the embedding cores, add up over replicas.
            loss = report[0] / self._strategy.num_replicas_in_sync
        gradients = tape.gradient(loss, self._weights)
        self._optimizer.apply_gradients(zip(gradients, self._weights, strict=True))
        return report

    def report(self, inquiry: Inquiry, vectors: dict[str, tf.Tensor]) -> tf.Tensor:
        """The objective's numbers for vectors that were looked up, (2,)."""
        looked_up = self._lookups.looked_up(inquiry, vectors)
        return self._objective(inquiry.edges, inquiry.seed, looked_up)
