"""Checkpoints: what a training run needs to go on as if it had never stopped.

save_dir/checkpoints/step-00001000/    appears complete or not at all
    state.index, state.data-*          weights, optimizer, step
    position.index, position.data-*    where the input was; only of one worker
    config.gin                         the settings in force
    checkpoint.json                    step, active seconds, shapes of the weights,
                                       fingerprints of the vocabularies
    evaluation-SET.json                what an evaluation on SET found
"""

import collections
import contextlib
import json
import posixpath
import re
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.embeddings.vocabulary import VocabularyRows
from recap_tf.core.storage.sharded_tables import ShardedVariable

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
    found = list_checkpoints(path)
    if best is not None and checkpoint_path(path, best["step"]) in found:
        return checkpoint_path(path, best["step"])
    if not found:
        raise UserError(f"There is no complete checkpoint below {path}.")
    return found[-1]


def read_best(save_dir: str) -> dict[str, Any] | None:
    """{"step", "value", ...} of the run's best evaluation so far, if it keeps one."""
    path = posixpath.join(save_dir, BEST)
    return _read_json(path) if tf.io.gfile.exists(path) else None


def read_metadata(path: str) -> dict[str, Any]:
    """What `checkpoint.json` of the checkpoint in folder `path` says."""
    return _read_json(posixpath.join(path, _METADATA))


def mark(path: str, **entries: Any) -> None:
    """Adds entries to `checkpoint.json` of the checkpoint in folder `path`."""
    described = read_metadata(path) | entries
    files.write_text(posixpath.join(path, _METADATA), json.dumps(described, indent=1))


def weight_shapes(root: Any) -> dict[str, list[int]]:
    """Path within `root` -> shape, of all variables that a checkpoint of it holds."""
    return {
        path: node.shape.as_list()
        for path, node in _nodes(root)
        if isinstance(node, (tf.Variable, ShardedVariable))
    }


def vocabularies(root: Any) -> dict[str, VocabularyRows]:
    """Table -> its vocabulary, of all tables below `root` that have one."""
    nodes = [node for _, node in _nodes(root)]
    return {node.table: node for node in nodes if isinstance(node, VocabularyRows)}


def _nodes(root: Any) -> Iterator[tuple[str, Any]]:
    """(path, object) of all that a checkpoint of `root` holds, each object once."""
    view = tf.train.TrackableView(root)
    seen = set()
    queue = collections.deque([("", root)])
    while queue:
        path, node = queue.popleft()
        if id(node) in seen:
            continue
        seen.add(id(node))
        yield path, node
        for name, child in view.children(node).items():
            queue.append((f"{path}/{name}" if path else name, child))


def _check_same_model(path: str, model: tf.Module) -> None:
    """Raises UserError if the checkpoint in folder `path` is not of this model."""
    stored = read_metadata(path)
    check_same_weights(path, stored["model"], weight_shapes(model))
    # Older checkpoints say nothing of vocabularies.
    known = stored.get("vocabularies", {})
    for table, own in vocabularies(model).items():
        if known.get(table, own.fingerprint) != own.fingerprint:
            raise UserError(
                f"The checkpoint {path} was trained with another vocabulary of table "
                f"{table!r}: with {own.path} as it is now, ids would get the rows of "
                "others. Bring the file back, or train anew."
            )


def check_same_weights(
    path: str, stored: Mapping[str, list[int]], own: Mapping[str, list[int]]
) -> None:
    """Raises UserError naming what differs between a checkpoint and the model."""
    different = [
        f"{name} is {stored[name]} there and {own[name]} here"
        for name in own
        if name in stored and stored[name] != own[name]
    ]
    different += [f"{name} is only there" for name in stored if name not in own]
    different += [f"{name} is only here" for name in own if name not in stored]
    if different:
        shown = "; ".join(different[:3])
        more = f"; and {len(different) - 3} more" if len(different) > 3 else ""
        raise UserError(
            f"The checkpoint {path} is of another architecture: {shown}{more}."
        )


def restore_model(path: str, model: tf.Module) -> None:
    """Gives `model` the weights of the checkpoint in folder `path`.

    Raises:
        UserError: its weights or its vocabularies are others; the message says which.
    """
    _check_same_model(path, model)
    _read(tf.train.Checkpoint(model=model), posixpath.join(path, "state"))


class Checkpoints:
    """Writes a run's checkpoints in the background, and reads them back.

    Args:
        save_dir: the run's folder.
        model: its weights are compared before they are restored.
        state: what else goes into the checkpoint, name -> trackable.
        keep: how many checkpoints stay; the best one stays besides. None for all.
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
        if keep is not None and keep < 1:
            raise ValueError(
                f"checkpoints_to_keep must be at least 1, or None. Received: {keep}"
            )
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
            tf.train.Checkpoint(position=position).write(
                posixpath.join(aside, "position")
            )
        described = {
            "step": step,
            **(metadata or {}),
            "model": weight_shapes(self._model),
            "vocabularies": {
                table: one.fingerprint
                for table, one in vocabularies(self._model).items()
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
        _check_same_model(path, self._model)
        _read(self._checkpoint, posixpath.join(path, "state"))

    def restore_position(self, path: str, iterator: Any) -> bool:
        """Moves `iterator` to where the input was; False if that was not stored."""
        prefix = posixpath.join(path, "position")
        if not tf.io.gfile.exists(f"{prefix}.index"):
            return False
        _read(tf.train.Checkpoint(position=iterator), prefix)
        return True

    def write_best(self, best: Mapping[str, Any]) -> None:
        """Notes which evaluation was the best; see `read_best`."""
        files.write_text(posixpath.join(self.save_dir, BEST), json.dumps(best))

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
