"""Training steps that the workers of a cluster run, each as fast as it can."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from recap_tf.core.command import UserError

# So that a worker that is faster does more of a call's steps.
_PIECES_PER_WORKER = 2
_NO_LIMIT = tf.int64.max


class WorkerSteps:
    """Hands steps out to workers and waits for them; see `loop.run_loop`.

    Workers read weights, compute, and write changes back without waiting for each
    other, so that a change can be of weights that others have changed since
    ("asynchronous", Dean et al. 2012, "Large Scale Distributed Deep Networks", section
    4.1), and changes of one row at the same moment can get lost. A call returns when
    all of its steps are done: nothing changes between calls.

    The steps of a worker that dies are done by the others; those that it had done are
    then done again. It gets steps again as soon as it is back.

    Args:
        strategy: a `tf.distribute.ParameterServerStrategy`.
        workers: how many it has.

    Raises:
        UserError: its workers have several GPUs each.
    """

    def __init__(self, strategy: tf.distribute.Strategy, workers: int):
        if strategy.num_replicas_in_sync > 1:
            raise UserError(
                "A worker must have one GPU at most; start one for each, with its own "
                f"CUDA_VISIBLE_DEVICES. Received: {strategy.num_replicas_in_sync}"
            )
        self._strategy, self._workers = strategy, workers
        self._coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)

    def iterator(self, read: Callable[[tf.Tensor], tf.data.Dataset]) -> Iterator:
        """What the workers take batches from, each from a pipeline of its own.

        Args:
            read: makes the pipeline, of a number of its own, a scalar int64. Numbers
                count from 0 in the order in which workers ask; one that was lost and is
                back asks again.
        """
        with self._strategy.scope():
            self._given = tf.Variable(0, dtype=tf.int64, name="pipelines")

        @tf.autograph.experimental.do_not_convert
        def pipeline():
            # Adding and reading in one: workers ask at the same time.
            number = tf.raw_ops.ResourceCountUpTo(
                resource=self._given.handle, limit=_NO_LIMIT, T=tf.int64
            )
            return read(number)

        return iter(self._coordinator.create_per_worker_dataset(pipeline))

    def __call__(self, run: tf.types.experimental.GenericFunction):
        """`run(iterator, count)` on one machine -> the same on all workers.

        The losses returned are those of one worker's last step, of a failed one if
        any has failed.
        """

        def spread(iterator: Iterator, count: tf.Tensor) -> tuple[Any, Any, Any]:
            results = [
                self._coordinator.schedule(run, args=(iterator, tf.constant(steps)))
                for steps in _pieces(int(count), self._workers * _PIECES_PER_WORKER)
            ]
            self._coordinator.join()
            done, totals, losses = zip(*self._coordinator.fetch(results), strict=True)
            failed = [of_call for of_call in losses if not np.isfinite(of_call).all()]
            return sum(done), sum(totals), (failed or losses)[-1]

        return spread


def _pieces(count: int, most: int) -> list[int]:
    """`count` in at most so many nearly equal parts, none of them 0."""
    parts = min(count, most)
    return [count // parts + (i < count % parts) for i in range(parts)]
