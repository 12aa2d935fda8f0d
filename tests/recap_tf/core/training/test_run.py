"""One run: what it calls in which order, and where it goes on."""

import contextlib
import dataclasses

import pytest
import tensorflow as tf

from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints
from recap_tf.core.training.loop import Event
from recap_tf.core.training.run import Run, RunOutcome, RunParts, SavedBeside
from recap_tf.core.training.stopping import Stop


@dataclasses.dataclass(frozen=True)
class Settings:
    save_dir: str
    steps: int = 10
    log_every: int = 4
    checkpoint_every: int = 5


class Rates:
    def learning_rates(self, step):
        return {"all": 0.1 * step}


class Adding:
    """A step that adds 1 to the weight."""

    names = ("loss",)

    def __init__(self, model, step):
        self._model, self._step = model, step

    def __call__(self, iterator):
        self._model.weight.assign_add(1.0)
        self._step.assign_add(1)
        return tf.reshape(self._model.weight, [1])


class Parts(RunParts):
    """Notes what is asked of it; ends early at step `end`, or is told to stop at it."""

    def __init__(self, settings, end=None, stop=None):
        self.calls = []
        self.model = tf.Module()
        self.model.weight = tf.Variable(0.0)
        self.step = tf.Variable(0, dtype=tf.int64)
        self.optimizer = Rates()
        self.train_step = Adding(self.model, self.step)
        self.checkpoints = checkpoints.Checkpoints(
            settings.save_dir, self.model, {"step": self.step}
        )
        self._end, self._stop = end, stop

    def restore(self, path, metadata):
        super().restore(path, metadata)
        self.calls.append(f"restore {metadata['step']}")

    def start_afresh(self):
        self.calls.append("start afresh")

    def start_input(self, resumed):
        self.calls.append("start input" if resumed is None else "go on")
        return iter(())

    def evaluation_events(self, run):
        def evaluate(step, losses):
            self.calls.append(f"evaluate {step}")
            if self._stop is not None and step == self._end:
                self._stop.signal = "SIGTERM"
            return self._stop is None and step == self._end

        return [Event(1, evaluate)] if self._end else []

    def numbers(self, steps_per_second):
        assert steps_per_second > 0
        self.calls.append("log")
        return {"weight": float(self.model.weight)}

    def before_save(self, step):
        self.calls.append(f"save {step}")
        return SavedBeside(metadata={"word": step}, texts={"note.txt": f"{step}"})

    def after_save(self):
        self.calls.append("saved")

    def before_end(self, run, step):
        self.calls.append(f"end {step}")

    def finish(self, outcome, stop):
        self.calls.append("finish")
        return dataclasses.replace(outcome, report="good")

    def find_finished(self, outcome, stop):
        self.calls.append("find finished")
        return outcome


def train(settings, end=None, stop=None):
    parts = Parts(settings, end, stop)
    run = Run(parts, settings, "the = config", eager=True)
    return parts, run.train(Stop() if stop is None else stop)


def test_a_run_from_start_to_end(tmp_path, capsys):
    settings = Settings(str(tmp_path))
    parts, outcome = train(settings)
    assert parts.calls == [
        *("start afresh", "start input", "log", "save 5", "saved", "log"),
        # The last step's checkpoint is made once, at the event.
        *("save 10", "saved", "end 10", "finish"),
    ]
    path = checkpoints.checkpoint_path(str(tmp_path), 10)
    assert outcome == RunOutcome(10, path, trained=10, report="good")
    metadata = checkpoints.read_metadata(path)
    assert metadata["word"] == 10 and metadata["active_seconds"] > 0
    assert (tmp_path / "checkpoints/step-00000010/note.txt").read_text() == "10"
    config = tmp_path / "checkpoints/step-00000010/config.gin"
    assert config.read_text() == "the = config"


def test_a_further_run_goes_on_from_the_newest_checkpoint(tmp_path, capsys):
    train(Settings(str(tmp_path), steps=7))
    seconds = checkpoints.read_metadata(checkpoints.checkpoint_path(str(tmp_path), 7))
    parts, outcome = train(Settings(str(tmp_path), steps=9))
    assert parts.calls == [
        *("restore 7", "go on", "log", "end 9", "save 9", "saved", "finish")
    ]
    assert outcome.trained == 2 and float(parts.model.weight) == 9
    assert "Going on from" in capsys.readouterr().err
    later = checkpoints.read_metadata(outcome.checkpoint)["active_seconds"]
    assert later > seconds["active_seconds"]


def test_a_finished_run_finds_nothing_to_do(tmp_path):
    _, before = train(Settings(str(tmp_path)))
    parts, outcome = train(Settings(str(tmp_path)))
    assert parts.calls == ["restore 10", "find finished"]
    assert outcome == RunOutcome(10, before.checkpoint, trained=0)


def test_a_run_marked_as_finished_stays_so_although_steps_are_left(tmp_path):
    parts, outcome = train(Settings(str(tmp_path)), end=3)
    assert parts.calls[-4:] == ["end 3", "save 3", "saved", "finish"]
    assert outcome.step == 3 and not outcome.interrupted
    checkpoints.mark(outcome.checkpoint, finished=True)
    parts, _ = train(Settings(str(tmp_path)))
    assert parts.calls == ["restore 3", "find finished"]


def test_a_signal_saves_and_ends_nothing(tmp_path):
    parts, outcome = train(Settings(str(tmp_path)), end=3, stop=Stop())
    assert parts.calls[-3:] == ["evaluate 3", "save 3", "saved"]
    assert outcome.interrupted and outcome.trained == 3 and outcome.report is None
    parts, outcome = train(Settings(str(tmp_path)))
    assert float(parts.model.weight) == 10 and outcome.trained == 7


def test_an_evaluation_is_before_the_checkpoint_of_its_step(tmp_path):
    parts, _ = train(Settings(str(tmp_path), steps=5, log_every=5), end=9)
    assert parts.calls[-6:] == [
        *("log", "evaluate 5", "save 5", "saved", "end 5", "finish")
    ]


def test_errors_are_explained_by_the_parts(tmp_path):
    class Losing(Parts):
        def start_input(self, resumed):
            raise OSError

        @contextlib.contextmanager
        def errors_explained(self):
            try:
                yield
            except OSError as error:
                raise UserError("The input is lost.") from error

    settings = Settings(str(tmp_path))
    with pytest.raises(UserError, match=r"The input is lost\."):
        Run(Losing(settings), settings, "").train(Stop())
