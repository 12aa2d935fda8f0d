"""The curves that a run of training left in its TensorBoard files."""

import logging
import posixpath
from collections.abc import Mapping

import numpy as np
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from recap_tf.core.training import checkpoints
from recap_tf.report.curves import Curve

Runs = dict[str, dict[str, Curve]]
"""Run ("train", or a validation set) -> name of a number -> its values over steps."""


def save_dir_of(checkpoint: str) -> str | None:
    """The save_dir that the checkpoint in folder `checkpoint` lies in, if it does."""
    folder = posixpath.dirname(posixpath.dirname(checkpoint.rstrip("/")))
    step = checkpoints.step_of(checkpoint)
    inside = checkpoints.checkpoint_path(folder, step) == checkpoint.rstrip("/")
    return folder if inside else None


def read_runs(save_dir: str) -> Runs:
    """Reads all that was logged below `save_dir`; empty if nothing was.

    Where a run was resumed, the later values of a step count.
    """
    folder = posixpath.join(save_dir, "tensorboard")
    if not tf.io.gfile.isdir(folder):
        return {}
    logging.getLogger("tensorboard").setLevel(logging.ERROR)
    names = sorted(name.rstrip("/") for name in tf.io.gfile.listdir(folder))
    runs = {name: _read_run(posixpath.join(folder, name)) for name in names}
    return {name: curves for name, curves in runs.items() if curves}


def _read_run(path: str) -> dict[str, Curve]:
    everything = {event_accumulator.TENSORS: 0}
    events = event_accumulator.EventAccumulator(path, size_guidance=everything)
    events.Reload()
    return {
        tag: curve
        for tag in events.Tags()[event_accumulator.TENSORS]
        if (curve := _curve(events.Tensors(tag))) is not None
    }


def _curve(events) -> Curve | None:
    """The scalars of `events`; None if they are something else."""
    values: Mapping[int, float] = {}
    for event in events:
        value = tf.make_ndarray(event.tensor_proto)
        if value.ndim or not np.issubdtype(value.dtype, np.number):
            return None
        values[event.step] = float(value)
    steps = sorted(values)
    return Curve(np.array(steps), np.array([values[step] for step in steps]))
