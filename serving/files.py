"""Files that appear complete or not at all, on any file system TensorFlow knows."""

import contextlib
import os
import posixpath
from collections.abc import Iterator

import tensorflow as tf


@contextlib.contextmanager
def replacing(path: str) -> Iterator[str]:
    """Yields a path to write to; renamed to `path` at the end, removed on an error."""
    folder = posixpath.dirname(path)
    if folder:
        tf.io.gfile.makedirs(folder)
    aside = f"{path}.partial-{os.getpid()}"
    try:
        yield aside
        tf.io.gfile.rename(aside, path, overwrite=True)
    except BaseException:
        if tf.io.gfile.exists(aside):
            tf.io.gfile.remove(aside)
        raise


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path`; a reader sees the old file or the whole new one."""
    with replacing(path) as aside, tf.io.gfile.GFile(aside, "w") as file:
        file.write(text)
