r"""Files of edges -> node types, vocabularies, relations, splits, and a config.

    python -m twhin_tf.vocabulary --edges edges.parquet --out data/graph \
        --columns user,action,tweet --types like=user:tweet reply=user:tweet \
        --split 0.9,0.05,0.05
    python -m twhin_tf.train --config data/graph/graph.gin

Edges may come split: --validation FILES --test FILES instead of --split. Entities that
only held-out edges have keep a row, after all others; --min-count 1 leaves them out.
"""

import argparse
import sys
from collections.abc import Sequence

from recap_tf.core.command import UserError, run_command


def main(argv: Sequence[str] | None = None) -> None:
    arguments = _parser().parse_args(argv)
    columns = [name.strip() for name in arguments.columns.split(",")]
    if len(columns) not in (2, 3) or len(set(columns)) < len(columns):
        raise UserError(
            "--columns takes the names of three columns, or of two if all edges are of "
            f"one relation. Received: {arguments.columns!r}"
        )
    if len(columns) == 3 and arguments.relation is not None:
        raise UserError(
            "--relation is for edges without a column for it, --columns A,C. Received: "
            f"--columns {arguments.columns}"
        )
    if arguments.types and arguments.type_prefix is not None:
        raise UserError("--types and --type-prefix cannot be given together.")
    if arguments.split is None and arguments.split_by is not None:
        raise UserError("--split-by says how --split splits; give both.")
    for name in ("validation", "test"):
        if arguments.split is not None and getattr(arguments, name):
            raise UserError(f"--split and --{name} exclude each other.")

    import tensorflow as tf

    from twhin_tf.conversion import flags
    from twhin_tf.conversion.graph_folder import convert

    out, replace = arguments.out, arguments.overwrite
    if tf.io.gfile.exists(out) and not replace:
        raise UserError(f"--out {out} exists already. To replace it: --overwrite.")
    conversion = flags.conversion(arguments)
    convert(flags.edges(arguments, columns), conversion, out, replace=replace)
    print(f"All of it is in {out}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m twhin_tf.vocabulary",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    files = {"nargs": "+", "metavar": "FILE"}
    parser.add_argument(
        "--edges",
        required=True,
        **files,
        help="parquet, CSV or TSV files, globs or folders; ids are integers or texts",
    )
    parser.add_argument("--validation", **files, help="held-out edges")
    parser.add_argument("--test", **files, help="held-out edges")
    parser.add_argument("--out", required=True, metavar="DIR")
    parser.add_argument(
        "--columns",
        default="head,relation,tail",
        metavar="A,B,C",
        help="left node, relation, right node; without B all edges are of one "
        "relation (head,relation,tail)",
    )
    parser.add_argument(
        "--no-header",
        action="store_true",
        help="CSV files without a header line; --columns names all their columns",
    )
    parser.add_argument(
        "--relation",
        metavar="NAME",
        help="the name of the one relation, where no column has it (edge, or what "
        "--types lists)",
    )
    parser.add_argument(
        "--types",
        nargs="+",
        action="append",
        metavar="RELATION=LHS:RHS",
        help="node types of every relation; without, all nodes are of one type",
    )
    parser.add_argument(
        "--type-prefix",
        metavar="MARK",
        help="types are part of the ids: with : user in user:7",
    )
    parser.add_argument(
        "--inverse",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="give every relation an inverse (yes)",
    )
    parser.add_argument(
        "--split", metavar="SHARES", help="of training, validation, test: 0.9,0.05,0.05"
    )
    parser.add_argument(
        "--split-by",
        choices=("edge", "pair"),
        help="pair: all edges between two nodes, in both directions, fall together; "
        "edge: every edge for itself (edge)",
    )
    parser.add_argument(
        "--min-count",
        type=int,
        default=0,
        metavar="N",
        help="leave out entities with fewer training edges (0)",
    )
    parser.add_argument(
        "--duplicates",
        choices=("keep", "drop"),
        default="keep",
        help="what to do with equal edges of a split (keep)",
    )
    parser.add_argument("--seed", type=int, default=0, metavar="S")
    parser.add_argument(
        "--overwrite", action="store_true", help="replace all that --out holds"
    )
    return parser


if __name__ == "__main__":
    sys.exit(run_command(main))
