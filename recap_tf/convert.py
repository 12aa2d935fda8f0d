r"""Parquet or CSV files of impressions -> records, vocabularies and a config.

From a log to an exported ranker:

    python -m recap_tf.convert --input log.parquet --out data \
        --labels is_click,is_like --validation-share 0.1
    python -m recap_tf.train --config data/ranker.gin
    python -m recap_tf.export --config data/ranker.gin --checkpoint data/run \
        --out models/recap

A further file gets the vocabularies of the first:

    python -m recap_tf.convert --input test.parquet --split-name test \
        --schema data/schema.json
"""

import argparse
import dataclasses
import os
import posixpath
import re
import sys
from collections.abc import Sequence

from recap_tf.conversion.expressions import parse_expression
from recap_tf.conversion.feature_choice import FeatureChoice
from recap_tf.conversion.label_expressions import parse_labels, split_list
from recap_tf.conversion.passes import (
    VALIDATION,
    Source,
    Training,
    convert_training_rows,
    convert_with_schema,
)
from recap_tf.conversion.side_tables import Join, parse_join, parse_vectors
from recap_tf.core.command import UserError, run_command

_LEARNED = ("labels", "ids", "numeric", "embeddings", "vectors", "group", "exclude")
_LEARNED += ("history", "time", "min_count", "validation_share")


def main(argv: Sequence[str] | None = None) -> None:
    args = _parser().parse_args(argv)
    if args.schema:
        for name in _LEARNED:
            if getattr(args, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} comes from {args.schema}; it cannot "
                    "be given with --schema."
                )
        out = args.out or posixpath.dirname(args.schema) or "."
        convert_with_schema(_source(args, out, VALIDATION), args.schema)
    else:
        if not args.labels or not args.out:
            raise UserError("--labels and --out must be given (or --schema).")
        convert_training_rows(_source(args, args.out, "train"), _training(args))


def _source(args: argparse.Namespace, out: str, split: str) -> Source:
    split = args.split_name or split
    if not re.fullmatch(r"[\w.]+", split):
        raise UserError(
            f"--split-name must be of letters, digits and dots. Received: {split!r}"
        )
    return Source(
        inputs=args.input,
        out=out,
        split=split,
        joins=[
            *(_kept_join(parse_join(text)) for text in args.join or ()),
            *(_kept_join(parse_vectors(text)) for text in args.vectors or ()),
        ],
        where=parse_expression(args.where) if args.where else None,
        shards=args.shards,
        overwrite=args.overwrite,
    )


def _training(args: argparse.Namespace) -> Training:
    choice = FeatureChoice(
        ids=_names(args.ids),
        numeric=_names(args.numeric),
        embeddings=_embeddings(
            args.embeddings or (), [parse_vectors(text) for text in args.vectors or ()]
        ),
        group=args.group,
        exclude=_names(args.exclude) or (),
        time=args.time,
    )
    given = {"min_count": args.min_count, "validation_share": args.validation_share}
    return Training(
        labels=parse_labels(args.labels),
        choice=choice,
        history_keys=_names(args.history) or (),
        **{name: value for name, value in given.items() if value is not None},
    )


def _kept_join(join: Join) -> Join:
    # A later file, converted from another folder, reads the same side table.
    if "://" in join.path:
        return join
    return dataclasses.replace(join, path=os.path.abspath(join.path))


def _embeddings(texts: Sequence[str], vectors: Sequence[Join]) -> dict[str, str]:
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


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    many = {"action": "append"}
    parser.add_argument(
        "--input",
        nargs="+",
        required=True,
        metavar="FILE",
        help="parquet or CSV files, globs or folders",
    )
    parser.add_argument("--out", metavar="DIR", help="folder of the records")
    parser.add_argument(
        "--labels",
        metavar="A,B",
        **many,
        help="0/1 columns, or conditions: 'rating>=4', 'college:education in (A|B)'",
    )
    parser.add_argument("--ids", metavar="A,B", **many, help="categorical columns")
    parser.add_argument("--numeric", metavar="A,B", **many, help="columns of numbers")
    parser.add_argument(
        "--embeddings",
        metavar="NAME=COLUMN",
        **many,
        help="columns of vectors: user_embedding=vector",
    )
    parser.add_argument(
        "--vectors",
        metavar="NAME=FILE:KEY",
        **many,
        help="vectors of the entities in column KEY, from a table of entity and vector "
        "as twhin_tf.export writes it: user_embedding=vectors/user.parquet:user_id",
    )
    parser.add_argument(
        "--group", metavar="COLUMN", help="stored as meta.COLUMN, for per-user metrics"
    )
    parser.add_argument("--exclude", metavar="A,B", **many, help="never features")
    parser.add_argument(
        "--join",
        metavar="FILE:KEY",
        **many,
        help="a small table of users or items; FILE:KEY=ITS_KEY if named otherwise",
    )
    parser.add_argument(
        "--where", metavar="EXPR", help="only these rows: 'day>=8 and day<15'"
    )
    parser.add_argument(
        "--history",
        metavar="KEY,KEY",
        **many,
        help="running counts before each row, by a column or several: user+item",
    )
    parser.add_argument("--time", metavar="COLUMN", help="by which the rows are sorted")
    parser.add_argument(
        "--min-count",
        type=int,
        metavar="N",
        help="rarer values share the id 0 (5)",
    )
    parser.add_argument(
        "--validation-share",
        type=float,
        metavar="SHARE",
        help="the last rows become the validation split",
    )
    parser.add_argument(
        "--schema",
        metavar="FILE",
        help="schema.json of an earlier conversion, whose vocabularies to use",
    )
    parser.add_argument(
        "--split-name",
        metavar="NAME",
        help="prefix of the record files (train; validation with --schema)",
    )
    parser.add_argument(
        "--shards", type=int, metavar="N", help="number of record files"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace what --out holds"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
