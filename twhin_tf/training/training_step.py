"""One update of a graph's vectors: edges -> loss -> gradients -> new rows."""

from collections.abc import Iterator

import tensorflow as tf

from recap_tf.core.optimizers.grouped import GroupedOptimizer
from twhin_tf.model.graph_embeddings import EdgeObjective


class EdgeTrainingStep:
    """Takes edges from an iterator and trains on them; a `loop.TrainingStep`.

    Args:
        objective: of a batch.
        weights: what is trained.
        optimizer: of the weights.
        step: counts the updates.
        strategy: whose replicas train.
        seed: of what is drawn at random.
        compiled: compile loss and gradients with XLA.
    """

    def __init__(
        self,
        objective: EdgeObjective,
        weights: list[tf.Variable],
        optimizer: GroupedOptimizer,
        step: tf.Variable,
        strategy: tf.distribute.Strategy,
        *,
        seed: int = 0,
        compiled: bool = False,
    ):
        self.names = list(objective.names)
        self._objective, self._weights = objective, weights
        self._optimizer, self._step = optimizer, step
        self._strategy, self._seed = strategy, seed
        self._gradients = self.gradients
        if compiled:
            # What changes tables row by row stays outside.
            self._gradients = tf.function(self.gradients, jit_compile=True)

    @tf.autograph.experimental.do_not_convert
    def __call__(self, iterator: Iterator) -> tf.Tensor:
        edges = iterator.get_next()
        # What a worker of a cluster runs is in the strategy's scope.
        alone = self._strategy.num_replicas_in_sync == 1
        if alone and not tf.distribute.in_cross_replica_context():
            report = self.update(edges)
        else:
            reports = self._strategy.run(self.update, args=(edges,))
            report = self._strategy.reduce(
                tf.distribute.ReduceOp.MEAN, reports, axis=None
            )
        self._step.assign_add(1)
        return report

    @tf.autograph.experimental.do_not_convert
    def update(self, edges: tf.Tensor) -> tf.Tensor:
        """Trains on a replica's edges, (batch, 3) int32; the objective's numbers."""
        replicas = self._strategy.num_replicas_in_sync
        seed = tf.stack([tf.constant(self._seed, tf.int64), tf.identity(self._step)])
        if replicas > 1:
            context = tf.distribute.get_replica_context()
            replica = tf.cast(context.replica_id_in_sync_group, tf.int64)
            seed = seed * [1, replicas] + tf.stack([tf.zeros_like(replica), replica])
        report, gradients = self._gradients(edges, seed)
        self._optimizer.apply_gradients(zip(gradients, self._weights, strict=True))
        return report

    @tf.autograph.experimental.do_not_convert
    def gradients(self, edges: tf.Tensor, seed: tf.Tensor):
        """The objective's numbers and the gradients of its first, by weight."""
        with tf.GradientTape() as tape:
            report = self._objective(edges, seed)
            # The optimizer adds up over replicas.
            loss = report[0] / self._strategy.num_replicas_in_sync
        return report, tape.gradient(loss, self._weights)
