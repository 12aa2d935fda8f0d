"""The training loop: many steps per call inside the graph, events between calls."""

import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
import tqdm

from recap_tf.core.checks import check_range
from recap_tf.core.training import nan_stop
from recap_tf.core.training.stopping import Stop

# One call of the graph runs about this long: short enough for a signal, a progress
# bar and Ctrl-C, long enough that Python costs nothing.
_SECONDS_PER_CALL = 0.5
_MOST_STEPS_PER_CALL = 1000

TrainingStep = Callable[[Iterator], tf.Tensor]
"""Takes batches from an iterator, trains on them; returns losses, (names,) float32."""

Spread = Callable[[Callable[..., Any]], Callable[..., Any]]
"""A function that runs several steps here -> one that has them run elsewhere."""


@dataclasses.dataclass(frozen=True)
class Event:
    """Something to do every so many steps.

    Args:
        every: steps between two calls.
        call: gets the number of steps done and the mean losses since its last call,
            name -> value; returns True to end the training.
    """

    every: int
    call: Callable[[int, dict[str, float]], bool | None]

    def __post_init__(self):
        check_range("Event.every", self.every, at_least=1)

    def ahead(self, done: int) -> int:
        """How many steps after step `done` the next call comes, at least 1."""
        return self.every - done % self.every


class _Mean:
    """Losses summed since they were last asked for."""

    def __init__(self, names: Sequence[str]):
        self._names = names
        self._total, self._steps = np.zeros(len(names)), 0

    def add(self, total: np.ndarray, steps: int) -> None:
        self._total += total
        self._steps += steps

    def take(self) -> dict[str, float]:
        values = self._total / max(self._steps, 1)
        self._total, self._steps = np.zeros(len(self._names)), 0
        return dict(zip(self._names, values.tolist(), strict=True))


def run_loop(
    step: TrainingStep,
    iterator: Iterator,
    names: Sequence[str],
    *,
    first: int,
    last: int,
    events: Sequence[Event],
    stop: Stop,
    eager: bool = False,
    spread: Spread | None = None,
) -> int:
    """Trains from step `first` up to step `last`.

    Args:
        step: one training step.
        iterator: where it takes its batches from.
        names: of the losses it returns; the first is the one that is minimised.
        first, last: steps done before and after.
        events: called after the steps that are multiples of theirs, in this order.
        stop: ends the loop after the call that is under way.
        eager: one plain step at a time, without a graph.
        spread: has steps run elsewhere, such as `worker_steps.WorkerSteps`; None runs
            them on this machine.

    Returns:
        The number of steps done.

    Raises:
        UserError: a loss is not finite; the message names the step and the loss.
    """
    run = _eagerly(step) if eager else _in_graph(step, len(names))
    if spread is not None:
        run = spread(run)
    means = [_Mean(names) for _ in events]
    done, size, ended = first, 1, False
    with _progress_bar(first, last) as bar:
        while done < last and not stop and not ended:
            ahead = [event.ahead(done) for event in events]
            started = time.monotonic()
            steps, total, losses = (
                np.asarray(value)
                for value in run(iterator, tf.constant(min(size, last - done, *ahead)))
            )
            seconds = time.monotonic() - started
            done += int(steps)
            nan_stop.check_finite(done, names, losses)
            bar.set_postfix(loss=f"{losses[0]:.4f}", refresh=False)
            bar.update(int(steps))
            for event, mean, left in zip(events, means, ahead, strict=True):
                mean.add(total, int(steps))
                if left == int(steps):
                    ended = bool(event.call(done, mean.take())) or ended
            grown = size * _SECONDS_PER_CALL / max(seconds, 1e-6)
            size = int(np.clip(min(grown, 4 * size), 1, _MOST_STEPS_PER_CALL))
    return done


def _in_graph(step: TrainingStep, losses: int) -> Callable[..., Any]:
    @tf.function
    def run(iterator, count):
        done, total = tf.constant(0), tf.zeros([losses])
        last = tf.zeros([losses])
        # Ends early on a loss that is not finite, to tell which step it was.
        while done < count and tf.reduce_all(tf.math.is_finite(last)):
            last = tf.ensure_shape(step(iterator), [losses])
            total += last
            done += 1
        return done, total, last

    return run


def _eagerly(step: TrainingStep) -> Callable[..., Any]:
    def run(iterator, count):
        losses = step(iterator)
        return 1, losses, losses

    return run


def _progress_bar(first: int, last: int) -> tqdm.tqdm:
    # Into a file, a line every ten seconds is enough.
    seconds = 0.5 if sys.stderr.isatty() else 10.0
    return tqdm.tqdm(
        initial=first,
        total=last,
        unit="step",
        mininterval=seconds,
        dynamic_ncols=True,
        desc="train",
    )
