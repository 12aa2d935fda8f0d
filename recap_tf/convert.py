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
import sys
from collections.abc import Sequence

from recap_tf.core.command import UserError, run_command

_LEARNED = ("labels", "ids", "numeric", "embeddings", "vectors", "group", "exclude")
_LEARNED += ("history", "time", "min_count", "validation_share")


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    if arguments.schema:
        for name in _LEARNED:
            if getattr(arguments, name) is not None:
                raise UserError(
                    f"--{name.replace('_', '-')} comes from {arguments.schema}; it "
                    "cannot be given with --schema."
                )
    elif not arguments.labels or not arguments.out:
        raise UserError("--labels and --out must be given (or --schema).")

    from recap_tf.conversion import flags, passes

    if arguments.schema:
        passes.convert_with_schema(flags.later_source(arguments), arguments.schema)
    else:
        source, training = flags.source(arguments), flags.training(arguments)
        passes.convert_training_rows(source, training)


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
        "--time-format",
        metavar="FORM",
        help="form of times in texts that are not ISO 8601: '%%d/%%m/%%Y %%H:%%M'",
    )
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
