"""What has been evaluated of a run: a mark in the checkpoint for every set.

save_dir/checkpoints/step-00001000/evaluation-SET.json    goes with the checkpoint
save_dir/evaluations/step-00001000.json                   stays: the run's history

A mark holds the set's report, so that the best checkpoint can be told from the marks
alone. Trainer and evaluator are separate processes that see each other only here.
"""

import contextlib
import json
import posixpath
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any
from urllib.parse import quote, unquote

import tensorflow as tf

from recap_tf.core import files
from recap_tf.core.command import UserError
from recap_tf.core.training import checkpoints

_PREFIX, _SUFFIX = "evaluation-", ".json"


class CheckpointGone(Exception):
    """The trainer has deleted the checkpoint in the meantime."""


def mark_name(name: str) -> str:
    """The file name, within a checkpoint, of the mark of the set `name`."""
    return f"{_PREFIX}{quote(name, safe='')}{_SUFFIX}"


def mark_evaluated(path: str, name: str, report: Mapping[str, Any]) -> None:
    """Marks the checkpoint in folder `path` as evaluated on the set `name`.

    Raises:
        CheckpointGone: it was deleted.
    """
    if checkpoints.is_complete(path):
        text = json.dumps(report, indent=1) + "\n"
        try:
            files.write_text(posixpath.join(path, mark_name(name)), text)
        except tf.errors.NotFoundError:
            # Else its folder went while we wrote.
            if checkpoints.is_complete(path):
                raise
        if checkpoints.is_complete(path):
            return
        # Deleted while we wrote: what is there now is ours, or is just being deleted.
        with contextlib.suppress(tf.errors.OpError):
            tf.io.gfile.rmtree(path)
    raise CheckpointGone(path)


def read_marks(path: str) -> dict[str, dict[str, Any]]:
    """Set -> the report of the checkpoint in folder `path`; none if it is gone."""
    reports = {}
    try:
        for name in sorted(tf.io.gfile.listdir(path)):
            if name.startswith(_PREFIX) and name.endswith(_SUFFIX):
                with tf.io.gfile.GFile(posixpath.join(path, name)) as file:
                    key = unquote(name[len(_PREFIX) : -len(_SUFFIX)])
                    reports[key] = json.load(file)
    except tf.errors.NotFoundError:
        return {}
    return reports


def unmarked(path: str, names: Iterable[str]) -> list[str]:
    """The sets among `names` that the checkpoint is still to be evaluated on."""
    return [
        name
        for name in names
        if not tf.io.gfile.exists(posixpath.join(path, mark_name(name)))
    ]


def write_history(save_dir: str, step: int, report: Mapping[str, Any]) -> None:
    """Adds an evaluation to the history of the run, in place of one of that step."""
    path = posixpath.join(save_dir, "evaluations", f"step-{step:08d}.json")
    files.write_text(path, json.dumps(report, indent=1) + "\n")


def wait_until_marked(
    save_dir: str,
    path: str,
    names: Iterable[str],
    timeout_seconds: float,
    stopped: Callable[[], bool],
) -> bool:
    """Waits until the checkpoint in folder `path` is evaluated on the sets `names`.

    Args:
        save_dir: the run's folder, in which the marks of all checkpoints count.
        path: the folder of its last checkpoint.
        names: the validation sets.
        timeout_seconds: the longest time without a new mark in any checkpoint.
        stopped: asked now and then; True ends the waiting.

    Returns:
        False if it was stopped.

    Raises:
        UserError: nothing was evaluated for that long.
    """
    names = list(names)
    progress, since = -1, time.monotonic()
    while left := unmarked(path, names):
        if stopped():
            return False
        marks = sum(
            len(names) - len(unmarked(checkpoint, names))
            for checkpoint in checkpoints.list_checkpoints(save_dir)
        )
        if marks != progress:
            progress, since = marks, time.monotonic()
        waited = time.monotonic() - since
        if waited > timeout_seconds:
            raise UserError(
                f"recap.train.wait_for_evaluator: nothing was evaluated for "
                f"{timeout_seconds:g} s (recap.evaluate.timeout_seconds); {path} is "
                f"complete, but not evaluated on {', '.join(left)}."
            )
        pause(timeout_seconds)
    return True


def pause(timeout_seconds: float) -> None:
    """Sleeps between two looks at a folder that is waited on."""
    time.sleep(min(2.0, timeout_seconds / 20))
