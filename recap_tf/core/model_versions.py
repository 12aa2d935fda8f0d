"""The numbered versions of a served model, as TF Serving watches for them."""

import tensorflow as tf


def next_version(folder: str) -> int:
    """One more than the highest version in `folder`, 1 if there is none."""
    if not tf.io.gfile.isdir(folder):
        return 1
    names = [name.rstrip("/") for name in tf.io.gfile.listdir(folder)]
    return 1 + max((int(name) for name in names if name.isdecimal()), default=0)
