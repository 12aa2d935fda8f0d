"""The flags of `twhin_tf.vocabulary` -> what a conversion is to do."""

import argparse
from collections.abc import Sequence

from recap_tf.core.command import UserError
from recap_tf.core.row_files import find_tables
from twhin_tf.conversion.graph_folder import Conversion
from twhin_tf.conversion.raw_edges import RawEdges
from twhin_tf.conversion.split_rules import ByFile, Shares, SplitRule
from twhin_tf.conversion.type_rules import ListedTypes, OneType, PrefixedTypes, TypeRule
from twhin_tf.graph.graph import SPLITS

_TRAIN, *_HELD_OUT = SPLITS


def conversion(arguments: argparse.Namespace) -> Conversion:
    """How edges become a graph.

    Raises:
        UserError: a flag does not have the form that its help shows.
    """
    return Conversion(
        types=_types(arguments),
        splits=_splits(arguments),
        inverse=arguments.inverse,
        min_count=arguments.min_count,
        drop_duplicates=arguments.duplicates == "drop",
        seed=arguments.seed,
    )


def edges(arguments: argparse.Namespace, columns: Sequence[str]) -> RawEdges:
    """Opens the files of edges.

    Args:
        arguments: as the user gave them.
        columns: --columns, apart: three names, or two if all edges are of one relation.

    Raises:
        UserError: a file is missing, or lacks a column.
    """
    names = columns if arguments.no_header else None
    if arguments.split is None:
        patterns = _patterns(arguments)
        tables = {
            split: find_tables(
                given, flag="--edges" if split == _TRAIN else f"--{split}", names=names
            )
            for split, given in patterns.items()
        }
    else:
        tables = {None: find_tables(arguments.edges, flag="--edges", names=names)}
    relation = None
    if len(columns) == 2:
        relation = arguments.relation or "edge"
        listed = _types(arguments).listed_relations()
        if arguments.relation is None and len(listed) == 1:
            relation = listed[0]
    return RawEdges(tables, columns, relation)


def _types(arguments: argparse.Namespace) -> TypeRule:
    if arguments.types:
        return ListedTypes([text for texts in arguments.types for text in texts])
    if arguments.type_prefix is not None:
        return PrefixedTypes(arguments.type_prefix)
    return OneType()


def _splits(arguments: argparse.Namespace) -> SplitRule:
    if arguments.split is None:
        return ByFile(list(_patterns(arguments)))
    try:
        shares = [float(text) for text in arguments.split.split(",")]
    except ValueError as error:
        raise UserError(
            f"--split takes shares such as 0.9,0.05,0.05. Received: {arguments.split!r}"
        ) from error
    return Shares(shares, arguments.split_by or "edge", arguments.seed)


def _patterns(arguments: argparse.Namespace) -> dict[str, Sequence[str]]:
    """Split -> the patterns of its files, where each file is for one split."""
    given = {name: getattr(arguments, name) for name in _HELD_OUT}
    return {_TRAIN: arguments.edges} | {
        name: patterns for name, patterns in given.items() if patterns
    }
