"""PCGrad: no task's gradient pulls against another's."""

import gin
import tensorflow as tf

from recap_tf.losses import gradient_arithmetic
from recap_tf.losses.task_balancing import TaskBalancing


@gin.register
class PCGrad(TaskBalancing):
    """Takes from each task's gradient what conflicts with another task's.

        g_i' = g_i;  for all j != i in random order, where g_i' . g_j < 0:
        g_i' = g_i' - (g_i' . g_j) / |g_j|^2 * g_j
        gradient = sum_i g_i'

    (times 1 / tasks for the mean over the tasks), g over all weights that the losses
    of two or more tasks reach; a task's own weights get their plain gradient. Yu et
    al. 2020 (arXiv:2001.06782, algorithm 1). The gradients are those of the whole
    batch, over all replicas and accumulated batches. Each task costs a pass back
    through the whole model, and the memory of one gradient.

    >>> import tensorflow as tf
    >>> from recap_tf.losses.pcgrad import PCGrad
    >>> tasks = [[tf.constant([1.0, 0.0])], [tf.constant([-1.0, 1.0])]]  # one weight
    >>> gradients = {"tasks": tasks, "rest": [None]}
    >>> [total] = PCGrad(["click", "like"]).combine(gradients, [], tf.constant([0, 0]))
    >>> total.numpy().tolist()  # of (0.5, 0.5) and (0, 1)
    [0.5, 1.5]
    """

    by_gradient = True

    def gradients(self, loss, weights, backbone):
        return {
            "tasks": [
                loss.tape.gradient(logit, weights, output_gradients=gradient)
                for logit, gradient in zip(
                    loss.task_logits, loss.logit_gradients(), strict=True
                )
            ],
            "rest": loss.tape.gradient(loss.rest, weights),
        }

    def combine(self, gradients, weights, seed):
        by_weight = list(zip(*gradients["tasks"], strict=True))
        # Two tasks or more: no weight of one task alone takes part.
        shared = [sum(g is not None for g in tasks) > 1 for tasks in by_weight]
        dots = [
            gradient_arithmetic.products(tasks)
            for tasks, is_shared in zip(by_weight, shared, strict=True)
            if is_shared
        ]
        if not dots:
            raise ValueError("PCGrad found no weight that two tasks' losses depend on.")
        factors = tf.unstack(projected(tf.add_n(dots), seed))
        combined = []
        for tasks, is_shared, rest in zip(
            by_weight, shared, gradients["rest"], strict=True
        ):
            total = rest
            for part, factor in zip(tasks, factors, strict=True):
                if is_shared:
                    part = gradient_arithmetic.scale(part, factor)
                total = gradient_arithmetic.add(total, part)
            combined.append(total)
        return combined


def projected(products: tf.Tensor, seed: tf.Tensor) -> tf.Tensor:
    """The factor of every task's gradient in the sum of the projected gradients.

    A projected gradient is a sum of multiples of the gradients, so their dot products
    are all that needs to be known of them.

    Args:
        products: (tasks, tasks), dot products of the gradients.
        seed: (2,) integers, of the random orders.

    Returns:
        (tasks,).
    """
    tasks = products.shape[0]
    orders = tf.argsort(tf.random.stateless_uniform([tasks, tasks], seed), axis=1)
    squares = tf.linalg.diag_part(products)
    factors = tf.eye(tasks)  # Row i: g_i' in multiples of the gradients.
    for place in range(tasks):
        other = orders[:, place]
        dot = tf.reduce_sum(factors * tf.gather(products, other), axis=1)
        conflict = (dot < 0) & (other != tf.range(tasks))
        share = tf.math.divide_no_nan(dot, tf.gather(squares, other))
        share = tf.where(conflict, share, 0.0)
        factors -= share[:, tf.newaxis] * tf.one_hot(other, tasks)
    return tf.reduce_sum(factors, axis=0)
