"""Prints what a folder of records holds; refuses what training would choke on.

    python -m recap_tf.inspect data
    python -m recap_tf.inspect 'logs/2026/*/*.gz' --schema schema.json

Exit code 2, and one line on stderr for each fault: a damaged file, a record that
disagrees with the schema, a feature that no record holds, a label other than 0 and 1,
an id outside its vocabulary.
"""

import argparse
import json
import posixpath
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from recap_tf.core.command import UserError, run_command, say

if TYPE_CHECKING:
    from recap_tf.conversion.columns import Columns
    from recap_tf.data.schema import Schema


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)

    from recap_tf.core import files
    from recap_tf.inspection.summary_table import print_summary
    from recap_tf.inspection.survey import find_splits, summarize

    splits = find_splits(arguments.target)
    schema, columns = _schema_and_columns(arguments.target, arguments.schema, splits)
    labels = arguments.labels.split(",") if arguments.labels else None
    if labels is None and columns is not None:
        labels = [label.name for label in columns.labels]
    report, faults = {}, []
    for split, paths in splits.items():
        summary = summarize(split, paths, schema, labels=labels, columns=columns)
        print_summary(split, summary, columns)
        report[split] = summary.as_json(columns)
        faults += summary.faults
    if arguments.json:
        files.write_text(
            arguments.json, json.dumps({"splits": report}, indent=1) + "\n"
        )
    for fault in faults[:-1]:
        say(f"error: {fault}")
    if faults:
        raise UserError(faults[-1])


def _schema_and_columns(
    target: str, schema: str | None, splits: dict[str, list[str]]
) -> tuple["Schema", "Columns | None"]:
    import tensorflow as tf

    from recap_tf.conversion.columns import read_columns_beside
    from recap_tf.data.record_checks import inferred_schema
    from recap_tf.data.schema import read_schema

    folder = target if tf.io.gfile.isdir(target) else posixpath.dirname(target)
    if schema is None and tf.io.gfile.exists(posixpath.join(folder, "schema.json")):
        schema = posixpath.join(folder, "schema.json")
    if schema is None:
        path = next(iter(splits.values()))[0]
        print(f"No schema.json: taken from the first records of {path}.")
        return inferred_schema(path), None
    return read_schema(schema), read_columns_beside(schema)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m recap_tf.inspect",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("target", help="a folder of record files, or a glob")
    parser.add_argument(
        "--schema", help="schema file (else DIR/schema.json, or guessed)"
    )
    parser.add_argument("--labels", help="features that must be 0 or 1, with commas")
    parser.add_argument("--json", help="also write the numbers to this file")
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
