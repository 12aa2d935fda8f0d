"""The files of a folder of converted records, and how they get there.

train-00000-of-00004.tfrecord.gz ...    records, one prefix per split
schema.json       features of a record
columns.json      columns of the dense features, and their statistics
vocabulary/       COLUMN.parquet: value, id, count
history/          SPLIT/: running counts at the end of that split
ranker.gin        a config that trains on all this
"""

import contextlib
import posixpath
import re
from collections.abc import Iterator
from urllib.parse import quote

import tensorflow as tf

from recap_tf.conversion.columns import read_columns, write_columns
from recap_tf.conversion.fitting import Fitted
from recap_tf.conversion.vocabulary import read_vocabulary
from recap_tf.core.command import UserError
from recap_tf.data.schema import Feature, write_schema

SCHEMA = "schema.json"
COLUMNS = "columns.json"
CONFIG = "ranker.gin"
_RECORDS = re.compile(r"(?P<split>.+)-\d{5}-of-\d{5}\.tfrecord\.gz")
_MADE_FROM_TRAINING = ("vocabulary", "history", SCHEMA, COLUMNS, CONFIG)


def record_name(split: str, index: int, count: int) -> str:
    """File name of one of `count` record files."""
    return f"{split}-{index:05d}-of-{count:05d}.tfrecord.gz"


def splits(folder: str) -> dict[str, list[str]]:
    """Split -> names of its record files in `folder`, both sorted."""
    names_of: dict[str, list[str]] = {}
    if tf.io.gfile.isdir(folder):
        for name in sorted(tf.io.gfile.listdir(folder)):
            match = _RECORDS.fullmatch(name)
            if match:
                names_of.setdefault(match["split"], []).append(name)
    return names_of


def histories(folder: str) -> list[str]:
    """The folders of the saved histories below `folder`, sorted."""
    return sorted(
        posixpath.dirname(path)
        for path in tf.io.gfile.glob(posixpath.join(folder, "history/*/state.json"))
    )


def history_folder(folder: str, split: str) -> str:
    """The folder of a split's history."""
    return posixpath.join(folder, "history", split)


def write_fitted(folder: str, fitted: Fitted, features: list[Feature]) -> None:
    """Writes schema, columns and vocabularies."""
    for name, vocabulary in fitted.vocabularies.items():
        path = _vocabulary_path(folder, name)
        tf.io.gfile.makedirs(posixpath.dirname(path))
        vocabulary.write(path)
    write_columns(posixpath.join(folder, COLUMNS), fitted.columns)
    write_schema(posixpath.join(folder, SCHEMA), features)


def read_fitted(folder: str) -> Fitted:
    """Reads the columns and vocabularies that `write_fitted` wrote."""
    columns = read_columns(posixpath.join(folder, COLUMNS))
    vocabularies = {
        column.name: read_vocabulary(_vocabulary_path(folder, column.name))
        for column in columns.discrete
    }
    return Fitted(columns, vocabularies, {})


@contextlib.contextmanager
def staging(out: str) -> Iterator[str]:
    """Yields a folder in `out` to fill; after an error nothing of it is left.

    Raises:
        UserError: the folder cannot be written to.
    """
    fresh = not tf.io.gfile.exists(out)
    aside = posixpath.join(out, ".partial")
    try:
        if tf.io.gfile.exists(aside):
            tf.io.gfile.rmtree(aside)
        tf.io.gfile.makedirs(aside)
        yield aside
    except BaseException as error:
        left = out if fresh else aside
        if tf.io.gfile.exists(left):
            tf.io.gfile.rmtree(left)
        if isinstance(error, tf.errors.OpError):
            raise UserError(f"{out} cannot be written: {error.message}") from error
        raise
    tf.io.gfile.rmtree(aside)


def check_free(out: str, new_splits: list[str], *, fit: bool) -> None:
    """Raises UserError if publishing would replace what is in `out`.

    Args:
        new_splits: the splits to be written.
        fit: whether schema, columns and vocabularies will be written too.
    """
    if fit and tf.io.gfile.exists(posixpath.join(out, SCHEMA)):
        raise UserError(
            f"{posixpath.join(out, SCHEMA)} exists already. To convert further files "
            "with its vocabularies give --schema, to replace it --overwrite."
        )
    for split, names in splits(out).items():
        # Records of replaced vocabularies would be of no use to anyone.
        if fit or split in new_splits:
            raise UserError(
                f"{out} holds {split} records already ({names[0]}); give another "
                f"{'--out' if fit else '--split-name'}, or --overwrite to replace them."
            )


def publish(aside: str, out: str, new_splits: list[str], *, fit: bool) -> list[str]:
    """Moves everything from `aside` to `out`, the schema last.

    Returns:
        The splits that went because their ids belonged to replaced vocabularies.
    """
    there = splits(out)
    gone = [split for split in there if fit or split in new_splits]
    for split in gone:
        for name in there[split]:
            tf.io.gfile.remove(posixpath.join(out, name))
    replaced = _MADE_FROM_TRAINING if fit else ()
    for name in replaced:
        path = posixpath.join(out, name)
        if tf.io.gfile.exists(path):
            (tf.io.gfile.rmtree if tf.io.gfile.isdir(path) else tf.io.gfile.remove)(
                path
            )
    moves = []
    for folder, _, names in tf.io.gfile.walk(aside):
        below = folder[len(aside) :].strip("/")
        moves += [posixpath.join(below, name) for name in names]
    for name in sorted(moves, key=lambda name: (name == SCHEMA, name)):
        target = posixpath.join(out, name)
        tf.io.gfile.makedirs(posixpath.dirname(target))
        tf.io.gfile.rename(posixpath.join(aside, name), target, overwrite=True)
    return [split for split in gone if split not in new_splits]


def _vocabulary_path(folder: str, column: str) -> str:
    # A column's name may hold letters that a file's may not.
    return posixpath.join(folder, "vocabulary", f"{quote(column, safe=' ')}.parquet")
