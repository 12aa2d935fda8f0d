"""Checkpoints: what a training run needs to go on as if it had never stopped.

save_dir/checkpoints/step-00001000/    appears complete or not at all
    state.index, state.data-*          weights, optimizer, step
    position.index, position.data-*    where the input was; see `input_position`
    config.gin                         the settings in force
    checkpoint.json                    step, active seconds, shapes of the weights,
                                       fingerprints of the vocabularies
    evaluation-SET.json                the report of an evaluation on SET
"""

import contextlib
import json
import posixpath
import re
import threading
from collections.abc import Callable, Collection, Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.checks import check_range
from recap_tf.core.command import UserError
from recap_tf.core.training.input_position import write_position
from recap_tf.core.training.same_model import (
    check_same_model,
    vocabularies,
    weight_shapes,
)

_NAME = re.compile(r"step-(\d{8,})$")
_METADATA = "checkpoint.json"
BEST = "best.json"


def checkpoint_path(save_dir: str, step: int) -> str:
    """The folder of the checkpoint after `step` steps."""
    return posixpath.join(save_dir, "checkpoints", f"step-{step:08d}")


def step_of(path: str) -> int:
    """After how many steps the checkpoint in folder `path` was made."""
    match = _NAME.search(path.rstrip("/"))
    if not match:
        raise UserError(f"{path} is not a checkpoint: expected .../step-00001000.")
    return int(match[1])


def list_checkpoints(save_dir: str) -> list[str]:
    """The complete checkpoints below `save_dir`, oldest first."""
    folder = posixpath.join(save_dir, "checkpoints")
    if not tf.io.gfile.isdir(folder):
        return []
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    return [
        posixpath.join(folder, name)
        for name in names
        if _NAME.fullmatch(name) and is_complete(posixpath.join(folder, name))
    ]


def newest_checkpoint(save_dir: str) -> str | None:
    """The newest complete checkpoint below `save_dir`; None if there is none yet."""
    paths = list_checkpoints(save_dir)
    return paths[-1] if paths else None


def is_complete(path: str) -> bool:
    """Whether folder `path` holds a whole checkpoint, not one half-deleted."""
    return tf.io.gfile.exists(posixpath.join(path, _METADATA))


def choose_checkpoint(path: str) -> str:
    """The checkpoint that `--checkpoint PATH` means.

    Args:
        path: a checkpoint's folder; or a save_dir, for its best checkpoint if the run
            chose one (early stopping), else its newest.

    Raises:
        UserError: there is none.
    """
    if _NAME.search(path.rstrip("/")):
        if is_complete(path):
            return path.rstrip("/")
        raise UserError(f"{path} holds no complete checkpoint.")
    best = read_best(path)
    paths = list_checkpoints(path)
    if best is not None and checkpoint_path(path, best["step"]) in paths:
        return checkpoint_path(path, best["step"])
    if not paths:
        raise UserError(f"There is no complete checkpoint below {path}.")
    return paths[-1]


def read_best(save_dir: str) -> dict[str, Any] | None:
    """{"step", "value", ...} of the run's best evaluation so far, if it keeps one."""
    path = posixpath.join(save_dir, BEST)
    return _read_json(path) if tf.io.gfile.exists(path) else None


def write_best(save_dir: str, best: Mapping[str, Any]) -> None:
    """Notes which evaluation of the run was the best; see `read_best`."""
    files.write_text(posixpath.join(save_dir, BEST), json.dumps(best))


def read_metadata(path: str) -> dict[str, Any]:
    """What `checkpoint.json` of the checkpoint in folder `path` says."""
    return _read_json(posixpath.join(path, _METADATA))


def mark(path: str, **entries: Any) -> None:
    """Adds entries to `checkpoint.json` of the checkpoint in folder `path`."""
    described = read_metadata(path) | entries
    files.write_text(posixpath.join(path, _METADATA), json.dumps(described, indent=1))


def restore_model(path: str, model: tf.Module) -> None:
    """Gives `model` the weights of the checkpoint in folder `path`.

    Raises:
        UserError: its weights or its vocabularies are others; the message says which.
    """
    check_same_model(path, read_metadata(path), model)
    _read(tf.train.Checkpoint(model=model), posixpath.join(path, "state"))


class Checkpoints:
    """Writes a run's checkpoints in the background, and reads them back.

    Args:
        save_dir: the run's folder.
        model: its weights are compared before they are restored.
        state: what else goes into the checkpoint, name -> trackable.
        keep: at least 1: so many checkpoints stay, and the best one besides. None for
            all.
        spared: which of the old checkpoints' folders stay besides.
        background: training goes on while a checkpoint is written, of copies of all
            variables in this process. Otherwise each variable's process writes it.
    """

    def __init__(
        self,
        save_dir: str,
        model: tf.Module,
        state: Mapping[str, Any],
        keep: int | None = None,
        spared: Callable[[list[str]], Collection[str]] = lambda old: (),
        background: bool = True,
    ):
        check_range("checkpoints_to_keep", keep, at_least=1, none="all")
        self.save_dir = save_dir
        self.keep = keep
        self._spared = spared
        self._background = background
        self._model = model
        self._checkpoint = tf.train.Checkpoint(model=model, **state)
        self._written = threading.Event()
        self._written.set()
        self._error: BaseException | None = None

    def remove_unfinished(self) -> None:
        """Deletes what a killed run left half-written or half-deleted."""
        folder = posixpath.join(self.save_dir, "checkpoints")
        if tf.io.gfile.isdir(folder):
            for name in tf.io.gfile.listdir(folder):
                path = posixpath.join(folder, name.rstrip("/"))
                half = _NAME.search(path) and not is_complete(path)
                if name.startswith(".partial-") or half:
                    tf.io.gfile.rmtree(path)

    def save(
        self,
        step: int,
        *,
        config: str,
        position: Any = None,
        metadata: Mapping[str, Any] | None = None,
        texts: Mapping[str, str] = {},
    ) -> None:
        """Starts writing a checkpoint; waits for the one before it.

        The values are those of now. Training may go on at once.

        Args:
            step: after how many steps.
            config: the settings in force, as text.
            position: the input's iterator, if its position can be saved.
            metadata: further entries of checkpoint.json.
            texts: further files, name -> text.
        """
        self.wait()
        path = checkpoint_path(self.save_dir, step)
        if tf.io.gfile.exists(path):
            return
        folder, name = posixpath.split(path)
        aside = posixpath.join(folder, f".partial-{name}")
        if tf.io.gfile.exists(aside):
            tf.io.gfile.rmtree(aside)
        tf.io.gfile.makedirs(aside)
        if position is not None:
            # At once: the iterator moves with the next step.
            write_position(aside, position)
        described = {
            "step": step,
            **(metadata or {}),
            "model": weight_shapes(self._model),
            "vocabularies": {
                table: vocabulary.fingerprint
                for table, vocabulary in vocabularies(self._model).items()
            },
        }
        self._written.clear()

        def finish(_):
            try:
                for name, text in ({"config.gin": config} | dict(texts)).items():
                    files.write_text(posixpath.join(aside, name), text)
                files.write_text(
                    posixpath.join(aside, _METADATA), json.dumps(described, indent=1)
                )
                tf.io.gfile.rename(aside, path)
                self._remove_old()
            except BaseException as error:  # Raised again where training waits.
                self._error = error
            finally:
                self._written.set()

        self._checkpoint.write(
            posixpath.join(aside, "state"),
            options=tf.train.CheckpointOptions(
                experimental_enable_async_checkpoint=self._background,
                experimental_write_callbacks=[finish],
            ),
        )

    def wait(self) -> None:
        """Returns when the last checkpoint is complete.

        Raises:
            OSError, tf.errors.OpError: it could not be written.
        """
        # TensorFlow raises here what its own thread met, in which case `finish` is
        # never called.
        self._checkpoint.sync()
        self._written.wait()
        if self._error is not None:
            error, self._error = self._error, None
            raise error

    def restore(self, path: str) -> None:
        """Gives every object of the run its state in the checkpoint `path`."""
        check_same_model(path, read_metadata(path), self._model)
        _read(self._checkpoint, posixpath.join(path, "state"))

    def _remove_old(self) -> None:
        if self.keep is None:
            return
        best = read_best(self.save_dir)
        chosen = checkpoint_path(self.save_dir, best["step"]) if best else None
        old = list_checkpoints(self.save_dir)[: -self.keep]
        for path in set(old) - {chosen, *self._spared(old)}:
            _delete(path)


def _delete(path: str) -> None:
    # First what makes it a checkpoint, so that nobody takes half of one for a whole.
    tf.io.gfile.remove(posixpath.join(path, _METADATA))
    # An evaluator may write into the folder at this moment; it cleans up after itself.
    with contextlib.suppress(tf.errors.OpError):
        tf.io.gfile.rmtree(path)


def _read(checkpoint: tf.train.Checkpoint, prefix: str) -> None:
    status = checkpoint.read(prefix)
    # All that is here must be there. The converse holds but for TensorFlow's own
    # counter of saves, about which it would warn.
    try:
        status.assert_existing_objects_matched().expect_partial()
    except AssertionError as error:
        raise UserError(
            f"The checkpoint {posixpath.dirname(prefix)} is of a run with another "
            "optimizer or loss, whose state this one cannot go on from. Change "
            "save_dir; initial_checkpoint_dir starts from its weights."
        ) from error


def _read_json(path: str) -> dict[str, Any]:
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)
