"""One update of a ranker: batches -> loss -> gradients -> new weights."""

from collections.abc import Iterator, Mapping, Sequence

import tensorflow as tf

from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.losses.gradient_clipping import clip_by_global_norm
from recap_tf.losses.multi_task_loss import MultiTaskLoss
from recap_tf.losses.task_balancing import BatchLoss, TaskBalancing
from recap_tf.model.ranking_model import RankingModel
from recap_tf.training.gradient_accumulation import accumulate


class RankerTrainingStep:
    """Takes batches from an iterator and trains on them; a `loop.TrainingStep`.

    Called, it returns the numbers of `names`: the loss that was minimised
    (regularization and what balances the tasks included), the tasks' losses, and for a
    pairwise loss the number of its pairs per batch.

    Args:
        model: whose weights are trained.
        loss: of all tasks.
        balancing: of the tasks; made by `loss.balancing`.
        optimizer: of the model's weights and the balancing's.
        step: counts the updates.
        strategy: whose replicas train.
        gradient_accumulation: batches to an update.
        clip_norm: upper limit of the joint norm of the model's gradients, over all
            replicas and accumulated batches; None for no limit.
        seed: of what a balancing draws at random.
    """

    def __init__(
        self,
        model: RankingModel,
        loss: MultiTaskLoss,
        balancing: TaskBalancing,
        optimizer: GroupedOptimizer,
        step: tf.Variable,
        strategy: tf.distribute.Strategy,
        *,
        gradient_accumulation: int = 1,
        clip_norm: float | None = None,
        seed: int = 0,
    ):
        self._model, self._loss, self._balancing = model, loss, balancing
        self._optimizer, self._step = optimizer, step
        self._strategy = strategy
        self._parts = gradient_accumulation
        self._clip_norm = clip_norm
        self._seed = seed

    @property
    def names(self) -> list[str]:
        """Of the numbers that a step returns."""
        tasks = self._model.tasks
        pairs = tasks if self._loss.pairwise is not None else ()
        return [
            "loss",
            *(f"loss/{task}" for task in tasks),
            *(f"pairs/{task}" for task in pairs),
        ]

    # There is no control flow on tensors in a step for autograph to convert.
    @tf.autograph.experimental.do_not_convert
    def __call__(self, iterator: Iterator) -> tf.Tensor:
        batches = [iterator.get_next() for _ in range(self._parts)]
        reports = self._strategy.run(self.on_replica, args=(batches,))
        self._step.assign_add(1)
        return self._strategy.reduce(tf.distribute.ReduceOp.MEAN, reports, axis=None)

    def on_replica(self, batches: Sequence) -> tf.Tensor:
        """The update from a replica's batches, (features, labels, weights) each.

        Returns:
            (names,) float32, the mean over the batches.
        """
        of_balancing = self._balancing.trainable_variables
        weights = [*self._model.trainable_weights, *of_balancing]
        total, report = accumulate(
            batches, lambda batch: self._of_batch(batch, weights)
        )
        # The optimizer adds up over replicas; but norms and products are of sums.
        whole = self._balancing.by_gradient or self._clip_norm is not None
        if whole:
            total = _all_reduce(total)
        seed = tf.stack([tf.constant(self._seed, tf.int64), tf.identity(self._step)])
        gradients = self._balancing.combine(total, weights, seed)
        if self._clip_norm is not None:
            of_model = len(weights) - len(of_balancing)
            clipped = clip_by_global_norm(gradients[:of_model], self._clip_norm)
            gradients = clipped + gradients[of_model:]
        self._optimizer.apply_gradients(
            zip(gradients, weights, strict=True),
            experimental_aggregate_gradients=not whole,
        )
        self._balancing.after_update()
        return report

    def _of_batch(self, batch, weights):
        """What the balancing wants to know of one batch, and the report of it."""
        features, labels, example_weights = batch
        model, loss = self._model, self._loss
        with tf.GradientTape(persistent=self._balancing.by_gradient) as tape:
            outputs = model(
                features, training=True, return_task_logits=self._balancing.by_gradient
            )
            task_losses = loss.task_losses(
                model.tasks, labels, outputs["logits"], example_weights, features
            )
            minimised, batch_loss = self._batch_loss(tape, outputs, task_losses)
        backbone = () if model.backbone is None else model.backbone.trainable_weights
        gradients = self._balancing.gradients(batch_loss, weights, backbone)
        report = [minimised[tf.newaxis], task_losses]
        if loss.pairwise is not None:
            report.append(loss.count_pairs(labels, example_weights, features))
        return gradients, tf.concat(report, axis=0)

    def _batch_loss(
        self, tape: tf.GradientTape, outputs: Mapping, task_losses: tf.Tensor
    ) -> tuple[tf.Tensor, BatchLoss]:
        """The loss of a batch, and its share in that of the update."""
        loss = self._loss
        weighted = loss.weighted(self._model.tasks, task_losses)
        factors = self._balancing.weights()
        data = loss.reduce(weighted if factors is None else factors * weighted)
        penalties = self._balancing.penalties()
        rest = tf.zeros([]) if penalties is None else loss.reduce(penalties)
        if regularization := self._model.losses:
            rest += tf.add_n(regularization)
        # Replicas' losses are added up. A mean over the batch then wants a mean over
        # replicas, a sum over the batch a sum; what does not depend on the data, and
        # accumulated batches, always a mean.
        rest_share = 1.0 / (self._parts * self._strategy.num_replicas_in_sync)
        data_share = rest_share if loss.task_reduction == "mean" else 1.0 / self._parts
        return data + rest, BatchLoss(
            tape=tape,
            total=data_share * data + rest_share * rest,
            rest=rest_share * rest,
            by_task=data_share * loss.addends(weighted),
            logits=outputs["logits"],
            task_logits=outputs.get("task_logits", ()),
        )


def _all_reduce(gradients):
    """The sum over replicas, in every replica."""
    # Not by ReplicaContext.all_reduce: to have a gradient itself, it puts all tensors
    # (if none is rows of a table) through one IdentityN. TensorFlow's graph optimizer
    # takes that for a path from each to all others, drops "read before it is written"
    # where such a path says so too, and then takes the IdentityN apart: at times a
    # variable is read after its update.
    flat = [part for part in tf.nest.flatten(gradients) if part is not None]
    context = tf.distribute.get_replica_context()
    summed = iter(context.merge_call(_sum_over_replicas, args=flat))
    return tf.nest.map_structure(
        lambda part: None if part is None else next(summed), gradients
    )


def _sum_over_replicas(strategy: tf.distribute.Strategy, *values) -> list:
    return strategy.extended.batch_reduce_to(
        tf.distribute.ReduceOp.SUM, [(value, value) for value in values]
    )
