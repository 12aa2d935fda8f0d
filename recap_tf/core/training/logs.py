"""TensorBoard logs: one run for training, one for every validation set."""

import math
import posixpath
from collections.abc import Mapping

import tensorflow as tf


class Logs:
    """Writes numbers for TensorBoard below `save_dir`/tensorboard."""

    def __init__(self, save_dir: str):
        self._folder = posixpath.join(save_dir, "tensorboard")
        self._writers: dict[str, tf.summary.SummaryWriter] = {}

    def write(self, run: str, step: int, values: Mapping[str, float]) -> None:
        """Adds `values`, name -> number; NaN, a metric without a value, is left out.

        Args:
            run: the curves' name.
            step: where on the curves.
            values: what to add.
        """
        if run not in self._writers:
            path = posixpath.join(self._folder, run)
            self._writers[run] = tf.summary.create_file_writer(path)
        with self._writers[run].as_default(step=step):
            for name, value in values.items():
                if not math.isnan(value):
                    tf.summary.scalar(name, value)

    def flush(self) -> None:
        """Makes sure that everything written so far is in the files."""
        for writer in self._writers.values():
            writer.flush()
