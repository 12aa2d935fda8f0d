r"""Puts vectors into the records of a ranker, by the ids that the records hold.

    python -m recap_tf.join_vectors --records 'logs/*.gz' --schema logs/schema.json \
        --out joined --vectors user_embedding=exported/vectors/user.parquet:meta.user_id

Vectors are a table of entity and vector, as twhin_tf.export writes it. Streams the
records; the tables are held in memory. Ids without a vector get zeros.
"""

import argparse
import posixpath
import sys
from collections.abc import Sequence

from recap_tf.core.command import run_command


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)

    from tqdm import tqdm

    from recap_tf.conversion.vector_join import (
        RecordJoiner,
        parse_vector_join,
        targets,
    )
    from recap_tf.core import files
    from recap_tf.data.record_files import list_files
    from recap_tf.data.schema import read_schema, write_schema

    joins = [parse_vector_join(text) for text in arguments.vectors]
    paths = list_files(arguments.records)
    outputs = targets(paths, arguments.out)
    files.check_writable("--out", arguments.out)
    joiner = RecordJoiner(joins, read_schema(arguments.schema))
    with tqdm(unit=" records", unit_scale=True, desc="joining") as bar:
        for source, target in zip(paths, outputs, strict=True):
            joiner.join(source, target, bar)
    write_schema(posixpath.join(arguments.out, "schema.json"), joiner.schema())
    for name, joined in joiner.joined.items():
        share = joined.known / max(joined.records, 1)
        print(f"{name}: {share:.2%} of {joined.records:,} records have one; zeros else")
    print(f"Records and schema.json are in {arguments.out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.join_vectors",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--records", required=True, metavar="GLOB", help="TFRecords")
    parser.add_argument(
        "--schema", required=True, metavar="FILE", help="the schema of the records"
    )
    parser.add_argument(
        "--vectors",
        required=True,
        action="append",
        metavar="FEATURE=FILE:ID_FEATURE",
        help="what to join: user_embedding=vectors/user.parquet:meta.user_id",
    )
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="files of the same names, gzip"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
