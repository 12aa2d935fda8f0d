"""Files that appear complete or not at all, on any file system TensorFlow knows."""

import contextlib
import os
import posixpath
from collections.abc import Iterator

import tensorflow as tf

from recap_tf.core.command import UserError, one_line


def write_text(path: str, text: str) -> None:
    """Writes `text` to `path`; a reader sees the old file or the whole new one."""
    with replacing(path) as aside, tf.io.gfile.GFile(aside, "w") as file:
        file.write(text)


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


@contextlib.contextmanager
def new_folder(path: str, *, replace: bool = False) -> Iterator[str]:
    """Yields a folder to fill; renamed to `path` at the end, removed on an error.

    Args:
        replace: remove what is there, once the new one is full.

    Raises:
        FileExistsError: `path` is there already and is not to be replaced.
    """
    if tf.io.gfile.exists(path) and not replace:
        raise FileExistsError(f"{path} exists already.")
    folder, name = posixpath.split(path.rstrip("/"))
    aside = posixpath.join(folder, f".partial-{os.getpid()}-{name}")
    if tf.io.gfile.exists(aside):
        tf.io.gfile.rmtree(aside)
    tf.io.gfile.makedirs(aside)
    try:
        yield aside
        if tf.io.gfile.exists(path):
            tf.io.gfile.rmtree(path)
        tf.io.gfile.rename(aside, path)
    except BaseException:
        if tf.io.gfile.exists(aside):
            tf.io.gfile.rmtree(aside)
        raise


def check_writable(setting: str, folder: str) -> None:
    """Makes `folder`; finds out now, not hours later, that it cannot be written to.

    Args:
        setting: what the user calls the folder, to be named in the message.

    Raises:
        UserError: it cannot.
    """
    path = posixpath.join(folder, f".writable-{os.getpid()}")
    try:
        tf.io.gfile.makedirs(folder)
        write_text(path, "")
        tf.io.gfile.remove(path)
    except (tf.errors.OpError, OSError) as error:
        reason = one_line(str(error))
        raise UserError(
            f"{setting} = {folder!r} cannot be written to: {reason}"
        ) from error
