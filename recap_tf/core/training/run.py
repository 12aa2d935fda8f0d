"""One run of training: resume or start, loop, save, end. `Run.train` reads top down.

What is trained, where, and what follows from it is an object, the `RunParts`.
"""

import contextlib
import dataclasses
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

import tensorflow as tf

from recap_tf.core.command import say
from recap_tf.core.optimizers.grouped import GroupedOptimizer
from recap_tf.core.training import checkpoints, loop
from recap_tf.core.training.logs import Logs
from recap_tf.core.training.stopping import Stop


class RunSettings(Protocol):
    """What a run reads of its settings; counts of steps."""

    save_dir: str
    steps: int
    log_every: int
    checkpoint_every: int


@dataclasses.dataclass(frozen=True)
class RunOutcome:
    """How a run of training ended.

    Args:
        step: updates done, over all runs with this save_dir.
        checkpoint: the folder of the one to go on with: the best if the run chose one,
            else the last.
        trained: updates done by this run; 0 if there was nothing left to do.
        interrupted: a signal ended it before its last step.
        report: the evaluation of that checkpoint, if the run ended with one.
    """

    step: int
    checkpoint: str
    trained: int = 0
    interrupted: bool = False
    report: Any = None


@dataclasses.dataclass(frozen=True)
class SavedBeside:
    """What a checkpoint holds beside the state and the settings.

    Args:
        position: the input's iterator, if its position can be saved.
        metadata: further entries of checkpoint.json.
        texts: further files, name -> text.
    """

    position: Iterator | None = None
    metadata: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    texts: Mapping[str, str] = dataclasses.field(default_factory=dict)


class RunParts:
    """What a `Run` trains. A kind of training says here how it differs from others.

    Attributes:
        train_step: one update; has `names`, those of the losses that it returns, the
            minimised one first.
        optimizer: whose learning rates are logged.
        step: counts the updates.
        checkpoints: of the state.
        spread: has steps run on other machines, see `loop.run_loop`; None runs them
            here.
    """

    train_step: loop.TrainingStep
    optimizer: GroupedOptimizer
    step: tf.Variable
    checkpoints: checkpoints.Checkpoints
    spread: loop.Spread | None = None

    def errors_explained(self) -> contextlib.AbstractContextManager[None]:
        """Surrounds the run; turns errors that only these parts explain into words."""
        return contextlib.nullcontext()

    def restore(self, path: str, metadata: Mapping[str, Any]) -> None:
        """Takes the state from a checkpoint.

        Args:
            path: its folder.
            metadata: its checkpoint.json.
        """
        self.checkpoints.restore(path)

    def start_afresh(self) -> None:
        """Warm start of a run that has no checkpoint yet."""

    def start_input(self, resumed: str | None) -> Iterator:
        """The batches from `step` on.

        Args:
            resumed: the folder of the checkpoint that was restored; None for a new run.
        """
        raise NotImplementedError

    def input_events(self) -> Sequence[loop.Event]:
        """What the input does between steps, before anything else."""
        return ()

    def evaluation_events(self, run: "Run") -> Sequence[loop.Event]:
        """Evaluations, before the checkpoint of the same step is made."""
        return ()

    def numbers(self, steps_per_second: float) -> Mapping[str, float]:
        """What is logged beside losses and learning rates.

        Args:
            steps_per_second: since the last entry of the log.
        """
        return {}

    def before_save(self, step: int) -> SavedBeside:
        """Makes the state ready to be saved; what goes beside it."""
        return SavedBeside()

    def after_save(self) -> None:
        """Follows each start of writing a checkpoint."""

    def before_end(self, run: "Run", step: int) -> None:
        """What the last checkpoint is to know of, at step `step`."""

    def finish(self, outcome: RunOutcome, stop: Stop) -> RunOutcome:
        """What follows after the last checkpoint is complete."""
        return outcome

    def find_finished(self, outcome: RunOutcome, stop: Stop) -> RunOutcome:
        """What follows where an earlier run has done all steps."""
        return outcome


class Run:
    """Trains `parts`, from the newest checkpoint of its save_dir on.

    Args:
        parts: what is trained.
        settings: the run's length and rhythm.
        config: the settings in force as text, saved beside every checkpoint.
        eager: one plain step at a time, for debugging.

    Attributes:
        logs: of the run.
    """

    def __init__(
        self, parts: RunParts, settings: RunSettings, config: str, eager: bool = False
    ):
        self._parts, self._settings = parts, settings
        self._config, self._eager = config, eager
        self.logs = Logs(settings.save_dir)
        self._seconds_before = 0.0

    def train(self, stop: Stop) -> RunOutcome:
        """Trains until the last step, an event that ends the run, or a signal."""
        with self._parts.errors_explained():
            return self._train(stop)

    def _train(self, stop: Stop) -> RunOutcome:
        parts, settings = self._parts, self._settings
        parts.checkpoints.remove_unfinished()
        resumed = checkpoints.newest_checkpoint(settings.save_dir)
        if resumed is None:
            parts.start_afresh()
        else:
            metadata = checkpoints.read_metadata(resumed)
            parts.restore(resumed, metadata)
            self._seconds_before = metadata["active_seconds"]
            say(f"Going on from {resumed}.")
            # Ended early, it stays ended, although steps are left.
            if metadata.get("finished") or self.done >= settings.steps:
                return parts.find_finished(RunOutcome(self.done, resumed), stop)

        first = self.done
        iterator = parts.start_input(resumed)
        self._started = time.monotonic()
        self._logged = (self._started, first)
        done = loop.run_loop(
            parts.train_step,
            iterator,
            parts.train_step.names,
            first=first,
            last=settings.steps,
            events=[
                *parts.input_events(),
                loop.Event(settings.log_every, self._log),
                *parts.evaluation_events(self),
                # Last, so that a checkpoint knows of the evaluation of its own step.
                loop.Event(settings.checkpoint_every, lambda step, _: self.save(step)),
            ],
            stop=stop,
            eager=self._eager,
            spread=parts.spread,
        )

        interrupted = bool(stop) and done < settings.steps
        if not interrupted:
            parts.before_end(self, done)
        self.save(done, wait=True)
        self.logs.flush()
        path = checkpoints.checkpoint_path(settings.save_dir, done)
        outcome = RunOutcome(done, path, done - first, interrupted)
        return outcome if interrupted else parts.finish(outcome, stop)

    @property
    def done(self) -> int:
        """Updates done, over all runs with this save_dir."""
        return int(self._parts.step.numpy())

    def save(self, step: int, *, wait: bool = False) -> None:
        """Starts writing the checkpoint of `step`, unless there is one.

        Args:
            step: that was just done.
            wait: until it is complete.
        """
        parts = self._parts
        parts.checkpoints.wait()
        path = checkpoints.checkpoint_path(self._settings.save_dir, step)
        if checkpoints.is_complete(path):
            return
        beside = parts.before_save(step)
        parts.checkpoints.save(
            step,
            config=self._config,
            position=beside.position,
            metadata={"active_seconds": self._active_seconds(), **beside.metadata},
            texts=beside.texts,
        )
        parts.after_save()
        if wait:
            parts.checkpoints.wait()

    def _log(self, step: int, losses: Mapping[str, float]) -> None:
        now = time.monotonic()
        before, step_before = self._logged
        self._logged = (now, step)
        steps_per_second = (step - step_before) / max(now - before, 1e-9)
        rates = self._parts.optimizer.learning_rates(step - 1)
        self.logs.write(
            "train",
            step,
            {
                **losses,
                **{f"learning_rate/{group}": rate for group, rate in rates.items()},
                **self._parts.numbers(steps_per_second),
                "speed/steps_per_second": steps_per_second,
                "speed/active_seconds": self._active_seconds(),
            },
        )

    def _active_seconds(self) -> float:
        return self._seconds_before + time.monotonic() - self._started
