"""Folders of data that was made up, and the settings it was made with."""

import json
import posixpath

import tensorflow as tf

from recap_tf.core import files

MANIFEST = "synthetic.json"


def read_manifest(folder: str) -> dict | None:
    """What the folder's `MANIFEST` holds; None if there is none."""
    path = posixpath.join(folder, MANIFEST)
    if not tf.io.gfile.exists(path):
        return None
    with tf.io.gfile.GFile(path) as file:
        return json.load(file)


def write_manifest(folder: str, manifest: dict) -> None:
    """Writes the folder's `MANIFEST`, which also says that the folder is complete.

    Write it last: some file systems rename a folder file by file.
    """
    text = json.dumps(manifest, indent=1) + "\n"
    files.write_text(posixpath.join(folder, MANIFEST), text)


def check_free(folder: str, manifest: dict | None, settings: dict) -> None:
    """Makes sure that new data may go to `folder`.

    Args:
        folder: where the data goes; removed if it is empty.
        manifest: what it holds, see `read_manifest`.
        settings: of the new data, as JSON gives them back; other than the manifest's.

    Raises:
        FileExistsError: the folder holds something else.
    """
    if not tf.io.gfile.exists(folder):
        return
    if manifest is not None:
        there = manifest["settings"]
        differ = [key for key in settings if there.get(key) != settings[key]]
        raise FileExistsError(
            f"{folder} holds data that was made with other settings (other "
            f"{', '.join(differ)}). Remove it, or choose another folder."
        )
    if tf.io.gfile.listdir(folder):
        raise FileExistsError(
            f"{folder} exists and holds no made-up data. Choose another folder."
        )
    tf.io.gfile.rmtree(folder)
