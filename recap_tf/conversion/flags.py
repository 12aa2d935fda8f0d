"""The flags of `recap_tf.convert` -> what a conversion is to do."""

import argparse
import dataclasses
import os
import posixpath
import re
from collections.abc import Sequence

from recap_tf.conversion.expressions import parse_expression
from recap_tf.conversion.feature_choice import FeatureChoice
from recap_tf.conversion.label_expressions import parse_labels, split_list
from recap_tf.conversion.passes import VALIDATION, Source, Training
from recap_tf.conversion.side_tables import Join, parse_join, parse_vectors
from recap_tf.core.command import UserError
from recap_tf.core.values.time_form import TimeForm


def source(arguments: argparse.Namespace) -> Source:
    """The training rows, from which everything is learned.

    Raises:
        UserError: a flag does not have the form that its help shows.
    """
    return _source(arguments, arguments.out, "train")


def later_source(arguments: argparse.Namespace) -> Source:
    """Further rows; without --out they go beside the schema of the earlier ones.

    Raises:
        UserError: a flag does not have the form that its help shows.
    """
    out = arguments.out or posixpath.dirname(arguments.schema) or "."
    return _source(arguments, out, VALIDATION)


def training(arguments: argparse.Namespace) -> Training:
    """What is to be learned from the training rows.

    Raises:
        UserError: a flag does not have the form that its help shows.
    """
    choice = FeatureChoice(
        ids=_names(arguments.ids),
        numeric=_names(arguments.numeric),
        embeddings=_embeddings(
            arguments.embeddings or (),
            [parse_vectors(text) for text in arguments.vectors or ()],
        ),
        group=arguments.group,
        exclude=_names(arguments.exclude) or (),
        time=arguments.time,
    )
    given = {
        "min_count": arguments.min_count,
        "validation_share": arguments.validation_share,
    }
    return Training(
        labels=parse_labels(arguments.labels),
        choice=choice,
        history_keys=_names(arguments.history) or (),
        **{name: value for name, value in given.items() if value is not None},
    )


def _source(arguments: argparse.Namespace, out: str, split: str) -> Source:
    split = arguments.split_name or split
    if not re.fullmatch(r"[\w.]+", split):
        raise UserError(
            f"--split-name must be of letters, digits and dots. Received: {split!r}"
        )
    return Source(
        inputs=arguments.input,
        out=out,
        split=split,
        joins=[
            *(_absolute(parse_join(text)) for text in arguments.join or ()),
            *(_absolute(parse_vectors(text)) for text in arguments.vectors or ()),
        ],
        where=parse_expression(arguments.where) if arguments.where else None,
        time_form=TimeForm(arguments.time_format) if arguments.time_format else None,
        shards=arguments.shards,
        overwrite=arguments.overwrite,
    )


def _absolute(join: Join) -> Join:
    """`join` with a path that a later file, converted from another folder, finds."""
    if "://" in join.path:
        return join
    return dataclasses.replace(join, path=os.path.abspath(join.path))


def _embeddings(texts: Sequence[str], vectors: Sequence[Join]) -> dict[str, str]:
    """Feature -> column of vectors, of --embeddings and of --vectors."""
    embeddings = {join.vector_name: join.vector_name for join in vectors}
    if len(embeddings) < len(vectors):
        raise UserError("--vectors gives each name once.")
    for text in _names(texts):
        name, equals, column = text.partition("=")
        if not equals or name in embeddings:
            raise UserError(
                f"--embeddings takes NAME=COLUMN, each name once. Received: {text!r}"
            )
        embeddings[name] = column
    return embeddings


def _names(texts: Sequence[str] | None) -> list[str] | None:
    """The names of a flag that takes a list and may be repeated."""
    if texts is None:
        return None
    return [name.strip() for text in texts for name in split_list(text)]
